import { afterAll, beforeAll, expect, test } from "vitest";
import { Cluster } from "../../../adapters/kafka/cluster.ts";
import { kafka } from "../../../adapters/kafka/index.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { GroupPositions } from "../../../adapters/kafka/topology/positions.ts";
import { otherGroups, ownGroup, Trimmer } from "../../../adapters/kafka/topology/trimmer.ts";
import type { Topology } from "../../../core/adapter.ts";
import type { Address, Source } from "../../../core/address.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";
import { type SecuredKafka, startSecuredKafka } from "./secured-kafka.ts";

const ORDERS = workQueue("orders");
const BILLING = subscriptionOf("placed", "billing");
const PLACED: Address = { kind: "topic", name: "placed" };
const ALL = { queues: [ORDERS], subscriptions: [BILLING] };
const KEPT = ["orders.dlq", "placed..billing.dlq", "orders.queue.quarantine", "placed..billing.quarantine"];
const TOPICS = ["orders.queue", "placed", "placed..billing"].flatMap((name) => [name, `${name}.delays`]).concat(KEPT);

function each<Value>(names: readonly string[], value: Value): Record<string, Value> {
  return Object.fromEntries(names.map((name) => [name, value]));
}

describeKafka("the rights that roles need on Kafka, as they are documented", (broker) => {
  if (broker.how !== "docker") {
    test("needs a server with logins, in a container", (context) => context.skip("NOT RUN: there is no container"));
    return;
  }
  let secured: SecuredKafka;
  const work = ["orders.queue", "orders.queue.delays"];
  const own = ["placed..billing", "placed..billing.delays", "placed.delays"];

  beforeAll(async () => {
    secured = await startSecuredKafka([
      "operator",
      "verifier",
      "publisher",
      "delayer",
      "consumer",
      "biller",
      "heir",
      "trimmer",
    ]);
    await secured.grant("operator", {
      topics: {
        ...each(TOPICS, ["Create", "Describe", "DescribeConfigs"]),
        placed: ["Create", "DescribeConfigs", "Read"],
      },
      groups: { "placed..billing": ["Read"] },
    });
    await secured.grant("verifier", { topics: each(TOPICS, ["Describe", "DescribeConfigs"]) });
    await secured.grant("publisher", { topics: each(["orders.queue", "placed"], ["Write"]) });
    await secured.grant("delayer", { topics: each(["orders.queue.delays", "placed.delays"], ["Write"]) });
    await secured.grant("consumer", {
      topics: {
        ...each(work, ["Read", "Write", "Delete"]),
        "orders.queue.quarantine": ["Read", "Write"],
        "orders.dlq": ["Write"],
      },
      groups: each(work, ["Read"]),
    });
    await secured.grant("biller", {
      topics: {
        placed: ["Read", "Write"],
        ...each(own, ["Read", "Write", "Delete"]),
        "placed..billing.quarantine": ["Read", "Write"],
        "placed..billing.dlq": ["Write"],
      },
      groups: each(own, ["Read"]),
    });
    await secured.grant("trimmer", {
      topics: each(work, ["Read", "Write", "Delete"]),
      groups: { ...each(work, ["Read"]), "*": ["Describe"] },
      cluster: ["Describe"],
    });
    await secured.grant("heir", { topics: { "orders.dlq": ["Read", "Write"] }, groups: { "orders.dlq": ["Read"] } });
  });

  afterAll(() => secured?.stop());

  const opened = async (username: string) => openAdapter(secured.as(username));

  const problems = async (username: string, given: Partial<Topology>): Promise<readonly MessagingError[]> => {
    const { adapter } = await opened(username);
    return adapter.declare(topology(given)).finally(() => adapter.close());
  };

  /** Sends one message each, and says how it went. */
  const outcomes = async (
    username: string,
    sent: { readonly id: string; readonly delayMs?: number },
    ...to: readonly Address[]
  ): Promise<string[]> => {
    const { adapter, send } = await opened(username);
    const { id, delayMs = 0 } = sent;
    const results = to.map(async (address) => codeOf((await send(address, message(id, { delayMs })))[0]));
    return Promise.all(results).finally(() => adapter.close());
  };

  /** Takes and settles until the message of that id is among what was taken. */
  const taken = async (username: string, from: Source, id: string): Promise<void> => {
    const { adapter, notices } = await opened(username);
    const { kept, sink, ids } = keepingSink();
    const receiver = await adapter.receive(from, { prefetch: 10, ordered: false }, sink);
    await until(`"${id}"`, 30_000, () => expect(ids()).toContain(id));
    const held = [...kept];
    const results = await receiver.settle(held.map(({ token }) => ({ token, action: "ack" })));
    await adapter.close();
    expect(results).toEqual(held.map(() => "settled"));
    expect(notices).toEqual([]);
  };

  test("an operator declares, a verifier finds it well, and others may do neither", async () => {
    const refused = await problems("publisher", ALL);
    expect(refused.map(({ code }) => code)).toEqual(refused.map(() => "unauthorized"));
    expect(refused).toHaveLength(TOPICS.length - 1);
    expect(await problems("operator", ALL)).toEqual([]);
    expect(await problems("verifier", { ...ALL, mode: "verify" })).toEqual([]);
    const unseen = await problems("publisher", { ...ALL, mode: "verify" });
    expect(unseen.map(({ code }) => code)).toEqual(TOPICS.map(() => "unauthorized"));
  });

  test("a publisher publishes, and delays only with the right to", async () => {
    expect(await outcomes("publisher", { id: "sent" }, ORDERS.address, PLACED)).toEqual(["confirmed", "confirmed"]);
    expect(await outcomes("publisher", { id: "refused", delayMs: 5 }, ORDERS.address, PLACED)).toEqual([
      "unauthorized",
      "unauthorized",
    ]);
    expect(await outcomes("delayer", { id: "delayed", delayMs: 5 }, ORDERS.address, PLACED)).toEqual([
      "confirmed",
      "confirmed",
    ]);
    expect(await outcomes("verifier", { id: "refused" }, ORDERS.address)).toEqual(["unauthorized"]);
  });

  test("a consumer takes, retries with a delay and buries", async () => {
    await taken("consumer", ORDERS.address, "sent");
    const grave: Address = { kind: "dead-letters", of: ORDERS.address };
    expect(await outcomes("consumer", { id: "copied" }, grave)).toEqual(["confirmed"]);
    expect(await outcomes("consumer", { id: "again", delayMs: 20 }, ORDERS.address)).toEqual(["confirmed"]);
    await taken("consumer", ORDERS.address, "again");
    await taken("heir", grave, "copied");
  });

  test("a consumer of a subscription does so, and rewinds", async () => {
    await taken("biller", BILLING.address, "sent");
    expect(await outcomes("biller", { id: "again", delayMs: 20 }, BILLING.address)).toEqual(["confirmed"]);
    await taken("biller", BILLING.address, "again");
    const { adapter } = await opened("biller");
    await adapter.rewind(BILLING.address, "earliest");
    expect(await adapter.depth(BILLING.address)).not.toMatchObject({ ready: 0 });
    await adapter.close();
  });

  test("consumers write and read the quarantine logs of what they consume", async () => {
    for (const [username, { address }] of [["consumer", ORDERS] as const, ["biller", BILLING] as const]) {
      const { adapter } = await opened(username);
      const log = adapter.quarantine(address);
      await log.append(`by ${username}`);
      expect(await log.read()).toEqual([`by ${username}`]);
      await adapter.close();
    }
  });

  test("what is handled is deleted with the right to see all groups, and without it somebody is told", async () => {
    const { adapter, send } = await opened("consumer");
    const { kept, sink, ids } = keepingSink();
    const receiver = await adapter.receive(ORDERS.address, { prefetch: 10, ordered: false }, sink);
    await send(ORDERS.address, message("trimmed", { key: "one" }));
    await until("it", 30_000, () => expect(ids()).toContain("trimmed"));
    await receiver.settle(kept.map(({ token }) => ({ token, action: "ack" })));
    const { topic = "", partition = -1, offset = -1 } = kept.find(({ id }) => id === "trimmed")?.native ?? {};
    await adapter.close();
    const admin = kafka(secured.as("admin")).kafkajs().admin();
    await admin.connect();
    const low = async () =>
      Number((await admin.fetchTopicOffsets(topic)).find((at) => at.partition === partition)?.low);
    const trim = (username: string) => {
      const { brokers, sasl } = secured.as(username);
      const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
      const connection = kafkaJsClient({ brokers: [brokers], clientId: "trim", sasl, ...timeouts }).connection();
      const cluster = new Cluster(connection, 10_000, new AbortController().signal);
      const notices: MessagingError[] = [];
      const bounds = [ownGroup(cluster), otherGroups(new GroupPositions(connection), () => undefined)];
      const trimmer = new Trimmer(cluster, bounds, (error) => notices.push(error), { everyMs: 20 });
      trimmer.progressed(topic, { topic, partition, offset });
      return {
        notices,
        end: () => {
          trimmer.close();
          return connection.close();
        },
      };
    };
    const before = await low();
    const blind = trim("consumer");
    await until("the notice", 30_000, () => expect(blind.notices.map(({ code }) => code)).toEqual(["unauthorized"]));
    expect(blind.notices[0]?.message).toContain("describe the cluster and all groups");
    expect(await low()).toBe(before);
    await blind.end();
    const seeing = trim("trimmer");
    await until("the deletion", 30_000, async () => expect(await low()).toBe(offset + 1));
    expect(seeing.notices).toEqual([]);
    await seeing.end();
    await admin.disconnect();
  });

  test("who may not is told so, without a secret", async () => {
    const { adapter } = await opened("publisher");
    const { sink } = keepingSink();
    const ends = await Promise.allSettled([
      adapter.receive(ORDERS.address, { prefetch: 1, ordered: false }, sink),
      adapter.depth(ORDERS.address),
      adapter.rewind(BILLING.address, "now"),
      adapter.quarantine(ORDERS.address).append("a"),
      adapter.quarantine(ORDERS.address).read(),
    ]);
    await adapter.close();
    for (const end of ends) {
      const error = end.status === "rejected" ? (end.reason as MessagingError) : undefined;
      expect(error).toMatchObject({ code: "unauthorized" });
      expect(`${error?.message} ${error?.stack} ${String(error?.cause)}`).not.toContain("canary");
    }
  });
});

import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cluster } from "../../../adapters/kafka/cluster.ts";
import { kafka } from "../../../adapters/kafka/index.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { groupName, topicName } from "../../../adapters/kafka/names.ts";
import { ownGroup, Trimmer } from "../../../adapters/kafka/topology/trimmer.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const NO_SIGNALS = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };

describeKafka("messages on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let session: Awaited<ReturnType<typeof openAdapter>>;

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers });
  });

  afterAll(async () => {
    await session?.adapter.close();
    await names.remove();
  });

  const declared = async (name: string) => {
    const declaration = workQueue(named(name));
    expect(await session.adapter.declare(topology({ queues: [declaration] }))).toEqual([]);
    return declaration.address;
  };

  test("of other senders are taken as they are", async () => {
    const address = await declared("foreign");
    const producer = session.adapter.kafkajs().producer();
    await producer.connect();
    await producer.send({
      topic: topicName(address),
      messages: [
        {
          key: "k",
          value: "text",
          partition: 0,
          headers: { plain: "é", bytes: Buffer.from([0xff]), constructor: "c", twice: ["1", "2"] },
        },
        { key: Buffer.from([0xfe]), value: null, partition: 0 },
      ],
    });
    await producer.disconnect();
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 5, ordered: false }, sink);
    await until("both", 30_000, () => expect(kept).toHaveLength(2));
    const [first, second] = kept;
    expect(first).toMatchObject({
      id: expect.stringMatching(`^${topicName(address)}-0-0-.{22}$`),
      key: "k",
      contentType: undefined,
      redeliveries: 0,
    });
    expect({ ...first?.headers }).toEqual({ plain: "é", bytes: "/w==", constructor: "c", twice: "2" });
    expect(Buffer.from(first?.body ?? []).toString()).toBe("text");
    expect(first?.native).toMatchObject({ topic: topicName(address), partition: 0, offset: 0 });
    expect(second).toMatchObject({
      id: expect.stringMatching(`^${topicName(address)}-0-1-.{22}$`),
      key: "/g==",
      native: { value: undefined },
    });
    expect(second?.body).toHaveLength(0);
    const settled = await receiver.settle(kept.map(({ token }) => ({ token, action: "ack" })));
    expect(settled).toEqual(["settled", "settled"]);
    await receiver.close();
  });

  test("of ours can be read by others, and have the partition of their key", async () => {
    const address = await declared("ours");
    const headers = Object.assign(Object.create(null), { tenant: "acme" });
    await session.send(address, message("o-1", { key: "order-1", headers }), message("o-2", { key: "order-1" }));
    const seen: { partition: number; key: string | undefined; tenant: unknown; id: unknown }[] = [];
    const consumer = session.adapter.kafkajs().consumer({ groupId: named("others") });
    await consumer.connect();
    await consumer.subscribe({ topic: topicName(address), fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ partition, message: { key, headers } }) => {
        const [tenant, id] = [headers?.tenant?.toString(), headers?.["anybroker-id"]?.toString()];
        seen.push({ partition, key: key?.toString(), tenant, id });
      },
    });
    await until("both", 30_000, () => expect(seen).toHaveLength(2));
    await consumer.disconnect();
    expect(seen).toMatchObject([
      { key: "order-1", tenant: "acme", id: "o-1" },
      { key: "order-1", tenant: undefined, id: "o-2" },
    ]);
    expect(seen[0]?.partition).toBe(seen[1]?.partition);
  });

  test("pass a subscription by whose filter they do not match, and are counted, unless they were sent to it alone", async () => {
    const subscription = subscriptionOf(named("filtered"), "us", "geo.us.#");
    const { address } = subscription;
    expect(await session.adapter.declare(topology({ subscriptions: [subscription] }))).toEqual([]);
    const keys = ["geo.us.ny", "geo.ca", undefined, "geo.us"];
    await session.send(
      { kind: "topic", name: address.topic },
      ...keys.map((routingKey, n) => message(`e-${n}`, { routingKey })),
    );
    await session.send(address, message("copy", { routingKey: "geo.ca" }));
    const { kept, counts, sink, ids } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 5, ordered: false, subscription }, sink);
    await until("those that match", 30_000, () => expect(ids().sort()).toEqual(["copy", "e-0", "e-3"]));
    await receiver.settle(kept.map(({ token }) => ({ token, action: "ack" })));
    await until("nothing to be left", 30_000, async () => {
      expect(await session.adapter.depth(address)).toMatchObject({ ready: 0 });
    });
    await receiver.close();
    expect(kept.map(({ routingKey }) => routingKey).sort()).toEqual(["geo.ca", "geo.us", "geo.us.ny"]);
    expect(counts.filtered).toBe(2);
  });

  test("are counted until they are settled, in whatever order", async () => {
    const address = await declared("counted");
    await session.send(address, ...Array.from({ length: 10 }, (_, n) => message(`c-${n}`, { key: "one" })));
    expect(await session.adapter.depth(address)).toEqual({ ready: 10, unsettled: undefined, exact: false });
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 10, ordered: false }, sink);
    await until("all", 30_000, () => expect(kept).toHaveLength(10));
    const later = kept.slice(4).map(({ token }) => ({ token, action: "ack" }) as const);
    expect(await receiver.settle(later)).toEqual(later.map(() => "settled"));
    expect(await session.adapter.depth(address)).toMatchObject({ ready: 4 });
    await receiver.close();
    expect(await session.adapter.depth(address)).toMatchObject({ ready: 4 });
    const dead = { kind: "dead-letters", of: address } as const;
    await session.send(dead, message("d-1"), message("d-2"));
    expect(await session.adapter.depth(dead)).toEqual({ ready: 2, unsettled: undefined, exact: true });
    expect(await session.adapter.depth({ kind: "quarantine", of: address })).toMatchObject({ ready: 0 });
  });

  test("are refused where they are too large for the topic, and those beside them are not", async () => {
    const address = await declared("large");
    const small = await openAdapter({ brokers: broker.brokers, maxMessageBytes: 4 * 1024 * 1024 });
    // Compressed it is too large as well.
    const body = randomBytes(3 * 1024 * 1024);
    const results = await small.send(address, message("a"), message("b", { body, size: body.length }), message("c"));
    expect(results.map(codeOf)).toEqual(["confirmed", "too-large", "confirmed"]);
    const problems = await small.adapter.declare(topology({ queues: [workQueue(address.name)], mode: "verify" }));
    expect(problems.map(({ code }) => code)).toContain("conflict");
    await small.adapter.close();
  });

  test("that are handled are deleted from the log, and no other", async () => {
    const address = await declared("trimmed");
    const admin = session.adapter.kafkajs().admin();
    await admin.connect();
    await session.send(address, ...Array.from({ length: 6 }, (_, n) => message(`t-${n}`, { key: "one" })));
    const { kept, sink, ids } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 10, ordered: false }, sink);
    await until("all", 30_000, () => expect(kept).toHaveLength(6));
    const done = kept.filter((_, n) => n !== 3).map(({ token }) => ({ token, action: "ack" }) as const);
    expect(await receiver.settle(done)).toEqual(done.map(() => "settled"));
    const { topic, partition } = kept[3]?.native ?? { topic: "", partition: -1 };
    const client = kafkaJsClient({
      brokers: broker.brokers,
      clientId: "trim",
      connectionTimeoutMs: 10_000,
      requestTimeoutMs: 10_000,
    });
    const connection = client.connection();
    const cluster = new Cluster(connection, 10_000, new AbortController().signal);
    const notices: MessagingError[] = [];
    const trimmer = new Trimmer(cluster, [ownGroup(cluster)], (error) => notices.push(error), { everyMs: 50 });
    // Whatever it is told, what is committed decides.
    trimmer.progressed(groupName(address), { topic, partition, offset: 6 });
    await until("the log to begin at what is left", 30_000, async () => {
      const offsets = await admin.fetchTopicOffsets(topic);
      expect(offsets).toContainEqual({ partition, offset: "6", low: "3", high: "6" });
    });
    trimmer.close();
    await connection.close();
    await receiver.close();
    await admin.disconnect();
    expect(notices).toEqual([]);
    kept.length = 0;
    const again = await session.adapter.receive(address, { prefetch: 10, ordered: false }, sink);
    await until("the one that is left", 30_000, () => expect(ids()).toEqual(["t-3"]));
    await again.close();
  });

  test("can be sent and received by an adapter that is opened again", async () => {
    const address = await declared("reopened");
    const again = await openAdapter({ brokers: broker.brokers });
    await again.adapter.close();
    const [closed] = await again.send(address, message("while-closed"));
    expect(closed?.status).toBe("unknown");
    await again.adapter.open(NO_SIGNALS);
    await expect(again.adapter.open(NO_SIGNALS)).rejects.toMatchObject({ code: "invalid" });
    expect((await again.send(address, message("a"))).map(codeOf)).toEqual(["confirmed"]);
    const { sink, ids } = keepingSink();
    await again.adapter.receive(address, { prefetch: 10, ordered: false }, sink);
    await until("it", 30_000, () => expect(ids()).toEqual(["a"]));
    await again.adapter.close();
    await again.adapter.close();
  });

  test("a login that is refused, and a port where nobody listens, are told without the password", async () => {
    const password = "canary-password";
    const [place = ""] = broker.brokers;
    const sasl = { mechanism: "plain", username: "ada", password } as const;
    const refused = kafka({ brokers: [place], sasl });
    const error = await refused.open(NO_SIGNALS).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: expect.stringMatching(/^un(authorized|reachable)$/) });
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
      expect(`${cause.message} ${cause.stack} ${JSON.stringify(cause)}`).not.toContain(password);
    }
    await refused.close();
    const nobody = kafka({ brokers: "127.0.0.1:1", sasl });
    await expect(nobody.open(NO_SIGNALS)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("127.0.0.1:1"),
    });
    await nobody.close();
  });
});

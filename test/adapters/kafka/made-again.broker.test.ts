import type { Admin } from "kafkajs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { delaysTopic, groupName, topicName } from "../../../adapters/kafka/names.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import type { Receiver } from "../../../core/adapter.ts";
import type { Source, SubscriptionAddress, WorkAddress } from "../../../core/address.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { coordinatorOf, makeAgain } from "./kafkajs/wire.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

type Session = Awaited<ReturnType<typeof openAdapter>>;

describeKafka("a topic that is deleted and made again on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let session: Session;
  let sender: Session;
  let admin: Admin;
  let wire: KafkaConnection;
  const ends: Receiver[] = [];

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers, partitions: 1 });
    sender = await openAdapter({ brokers: broker.brokers, partitions: 1 });
    admin = session.adapter.kafkajs().admin();
    await admin.connect();
    const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
    wire = kafkaJsClient({ brokers: broker.brokers, clientId: "made-again", ...timeouts }).connection();
  });
  afterEach(async () => {
    await Promise.all(ends.splice(0).map((receiver) => receiver.close()));
  });
  afterAll(async () => {
    await admin?.disconnect();
    await wire?.close();
    await session?.adapter.close();
    await sender?.adapter.close();
    await names.remove();
  });

  async function declared(name: string): Promise<WorkAddress> {
    const { address } = workQueue(named(name));
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    return address;
  }

  const remake = (topic: string, partitions = 1) => makeAgain(wire, admin, topic, partitions);

  /** Sends until all are confirmed; returns their ids. */
  async function sendAll(to: WorkAddress, prefix: string, count: number, bytes = 10): Promise<string[]> {
    const ids = Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
    const body = Buffer.alloc(bytes, "x");
    for (let from = 0; from < ids.length; from += 50) {
      let open = ids.slice(from, from + 50);
      await until("confirmations", WAIT_MS, async () => {
        const results = await sender.send(to, ...open.map((id) => message(id, { body, size: bytes })));
        open = open.filter((_, index) => results[index]?.status !== "confirmed");
        expect(open).toEqual([]);
      });
    }
    return ids;
  }

  /** Receives; what comes is acknowledged as soon as `isHandling` says so. */
  async function receive(
    from: Source,
    {
      prefetch = 1_000,
      isHandling = () => true,
    }: { readonly prefetch?: number; readonly isHandling?: () => boolean } = {},
  ) {
    const { kept, sink, lost, stalled, ids } = keepingSink();
    const receiver = await session.adapter.receive(from, { prefetch, ordered: false }, sink);
    ends.push(receiver);
    let settled = 0;
    /** Acknowledges what came, and looks whether everything has come by then. */
    const came = (wanted: readonly string[]) =>
      until(`${wanted.length} messages`, WAIT_MS, async () => {
        if (isHandling()) {
          const batch = kept.slice(settled).map(({ token }) => ({ token, action: "ack" }) as const);
          settled += batch.length;
          await receiver.settle(batch);
        }
        const missing = wanted.filter((id) => !ids().includes(id));
        if (isHandling() && settled < kept.length) throw new Error("some are not acknowledged yet");
        if (missing.length > 0) throw new Error(`${missing.length} are missing, the first ${missing[0]}`);
      });
    return { receiver, kept, lost, stalled, ids, came };
  }

  const told = (text: string, { notices } = session) => notices.filter((notice) => notice.message.includes(text));
  const ready = async (of: WorkAddress) => (await session.adapter.depth(of)).ready;
  const empty = (of: WorkAddress) => until("the end", WAIT_MS, async () => expect(await ready(of)).toBe(0));

  /** What a group has committed for the first partition of a topic. */
  async function committed(group: string, topic: string) {
    const { offsets } = await wire.fetchOffsets(await coordinatorOf(wire, group), group, [{ topic, partition: 0 }]);
    return { topic, partition: 0, offset: offsets[0]?.offset ?? -1, metadata: offsets[0]?.metadata ?? "" };
  }

  async function commit(group: string, offset: Awaited<ReturnType<typeof committed>>): Promise<void> {
    const nobody = { memberId: "", generation: -1 };
    await until("the commit", WAIT_MS, async () => {
      const node = await coordinatorOf(wire, group);
      const [outcome] = await wire.commitOffsets(node, { group, ...nobody, offsets: [offset] });
      expect(outcome?.error).toBeUndefined();
    });
  }

  test("is read from its beginning by a consumer that was idle, and somebody is told", async () => {
    const address = await declared("idle");
    const { came } = await receive(address);
    await came(await sendAll(address, "before", 30));
    await empty(address);
    await remake(topicName(address));
    await came(await sendAll(address, "after", 100));
    await empty(address);
    expect(told(`topic "${topicName(address)}" is another one`)).not.toEqual([]);
  });

  test("is so too by one with a full buffer and a backlog, and seconds after", async () => {
    const address = await declared("busy");
    let isHandling = false;
    const { came, kept, lost } = await receive(address, { prefetch: 5, isHandling: () => isHandling });
    await sendAll(address, "before", 300, 20_000);
    await until("some", WAIT_MS, () => expect(kept).toHaveLength(5));
    await remake(topicName(address));
    const after = await sendAll(address, "after", 100);
    // Nothing is settled: that there is another topic has to be found out all the same.
    await until("the loss of what is held", WAIT_MS, () => expect(lost).not.toEqual([]));
    isHandling = true;
    await came(after);
    await empty(address);
    expect(told(`topic "${topicName(address)}" is another one`)).not.toEqual([]);
  });

  test("is so where nobody consumed meanwhile, and an offset of before stands committed", async () => {
    const address = await declared("stale");
    const first = await receive(address);
    await first.came(await sendAll(address, "before", 30));
    await empty(address);
    await first.receiver.close();
    const stale = await committed(groupName(address), topicName(address));
    expect(stale.offset).toBe(30);
    await remake(topicName(address));
    const after = await sendAll(address, "after", 100);
    // The server removes it, but it may come late, or the server may be away just then.
    await commit(groupName(address), stale);
    expect(await ready(address)).toBe(100);
    const second = await receive(address);
    await second.came(after);
    await empty(address);
    expect(told(`topic "${topicName(address)}" is another one`)).not.toEqual([]);
    expect((await committed(groupName(address), topicName(address))).offset).toBe(100);
  });

  test("has its subscriptions begin at its first event, also those that are declared again", async () => {
    const { address } = subscriptionOf(named("events"), "s");
    const declare = () =>
      session.adapter.declare(topology({ subscriptions: [subscriptionOf(address.topic, address.name)] }));
    expect(await declare()).toEqual([]);
    const group = groupName(address);
    const publish = (prefix: string, count: number) =>
      sendAll({ kind: "topic", name: address.topic } as unknown as SubscriptionAddress, prefix, count);
    const first = await receive(address);
    await first.came(await publish("before", 30));
    await empty(address);
    await first.receiver.close();
    const stale = await committed(group, address.topic);
    await remake(address.topic);
    const after = await publish("after", 50);
    await commit(group, stale);
    expect(await declare()).toEqual([]);
    expect(told(`subscription "${address.name}" of topic "${address.topic}" had no position`)).not.toEqual([]);
    const second = await receive(address);
    await second.came(after);
    await empty(address);
  });

  test("is written to by those who wrote to the one before, who are told", async () => {
    const address = await declared("written");
    await sendAll(address, "before", 3);
    await remake(topicName(address));
    const after = await sendAll(address, "after", 100);
    const { came } = await receive(address);
    await came(after);
    await until("the notice", WAIT_MS, () =>
      expect(told(`topic "${topicName(address)}" on Kafka was deleted and made again`, sender)).not.toEqual([]),
    );
  });

  test("sends on what is delayed in it, though the one before had its readers wait", async () => {
    const address = await declared("delays");
    const { came } = await receive(address);
    const far = Array.from({ length: 20 }, (_, index) => message(`far-${index}`, { delayMs: 600_000 }));
    expect(new Set((await sender.send(address, ...far)).map(codeOf))).toEqual(new Set(["confirmed"]));
    await until("the delayed ones to be read", WAIT_MS, async () => {
      const delays = delaysTopic(address);
      const { members } = await wire.describeGroup(await coordinatorOf(wire, delays), delays);
      expect(members).toBe(1);
    });
    await remake(delaysTopic(address), 8);
    await until("a confirmation", WAIT_MS, async () => {
      const [result] = await sender.send(address, message("near", { delayMs: 300 }));
      expect(result?.status).toBe("confirmed");
    });
    await came(["near"]);
  });

  test("has its own dead letters, and none of the one before in their place", async () => {
    const address = await declared("dead");
    const dead = { kind: "dead-letters", of: address } as const;
    const { ids, lost, receiver, kept } = await receive(dead, { isHandling: () => false });
    await sendAll(dead as unknown as WorkAddress, "before", 3);
    await until("those of before", WAIT_MS, () => expect(ids()).toEqual(["before-0", "before-1", "before-2"]));
    await remake(`${address.name}.dlq`);
    await sendAll(dead as unknown as WorkAddress, "after", 5);
    await until("those of after", WAIT_MS, () => expect(ids().slice(3)).toHaveLength(5));
    expect(lost).not.toEqual([]);
    expect(await receiver.settle([{ token: kept[0]?.token, action: "ack" }])).toEqual(["fenced"]);
    expect((await session.adapter.depth(dead)).ready).toBe(5);
  });

  test("by another number of partitions is read in all of them", async () => {
    const address = await declared("wider");
    const { came } = await receive(address);
    await came(await sendAll(address, "before", 10));
    await remake(topicName(address), 3);
    await came(await sendAll(address, "after", 300));
    await empty(address);
  });
});

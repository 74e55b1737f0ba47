import type { Admin } from "kafkajs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { topicName } from "../../../adapters/kafka/names.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import type { Topology } from "../../../core/adapter.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { connectionTo, deleteTopic, idOf } from "./kafkajs/wire.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

describeKafka("declaring on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let wire: KafkaConnection;
  let admin: Admin;

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers });
    wire = connectionTo(broker.brokers);
    admin = session.adapter.kafkajs().admin();
    await admin.connect();
  });

  afterAll(async () => {
    await wire?.close();
    await admin?.disconnect();
    await session?.adapter.close();
    await names.remove();
  });

  const declare = (given: Partial<Topology>) => session.adapter.declare(topology(given));

  test("makes what is missing, finds it well afterwards, and makes nothing unless told to", async () => {
    const all = { queues: [workQueue(named("a"))], subscriptions: [subscriptionOf(named("t"), "s")] };
    expect(await declare({ ...all, mode: "none" })).toEqual([]);
    const missing = await declare({ ...all, mode: "verify" });
    const work = (name: string): string[] => [name, `${name}.delays`, `${name}.quarantine`];
    const dead = ["a", "t..s"].map((name) => named(`${name}.dlq`));
    const events = [named("t"), named("t.delays")];
    const expected = [...work(named("a.queue")), ...events, ...work(named("t..s")), ...dead].sort();
    expect(missing.map(({ code }) => code)).toEqual(expected.map(() => "not-found"));
    for (const name of expected) expect(missing.map((problem) => problem.message).join()).toContain(`"${name}"`);
    const existing = async () => (await admin.listTopics()).filter((name) => expected.includes(name)).sort();
    expect(await existing()).toEqual([]);
    expect(await declare(all)).toEqual([]);
    expect(await existing()).toEqual(expected);
    expect(await declare({ ...all, mode: "verify" })).toEqual([]);
    expect(await declare(all)).toEqual([]);
  });

  test("names everything that is wrong with what stands, at once", async () => {
    const compacted = { "cleanup.policy": "compact", "max.message.bytes": "1000" };
    const outcomes = await wire.createTopics([
      { topic: named("wrong.queue"), partitions: 2, replicationFactor: 1, configuration: compacted },
      {
        topic: named("wrong.queue.delays"),
        partitions: 3,
        replicationFactor: 1,
        configuration: { "retention.ms": "-1" },
      },
    ]);
    expect(outcomes.map(({ error }) => error)).toEqual([undefined, undefined]);
    for (const name of ["wrong.queue", "wrong.queue.delays"]) {
      await until("the topic", 30_000, async () => expect(await idOf(wire, named(name))).not.toBe(""));
    }
    const problems = await declare({ queues: [workQueue(named("wrong"))] });
    expect(problems.map(({ code }) => code)).toEqual(problems.map(() => "conflict"));
    const texts = problems.map((problem) => problem.message);
    for (const fault of ["cleanup.policy=compact", "max.message.bytes=1000", "retention.ms=", "has 3 partitions"]) {
      expect(texts.filter((text) => text.includes(fault))).toHaveLength(1);
    }
    expect(await declare({ queues: [workQueue(named("wrong"))], mode: "verify" })).toHaveLength(problems.length);
  });

  test("says with whom a name collides that Kafka takes for another's", async () => {
    expect(await declare({ queues: [workQueue(named("one.two"))] })).toEqual([]);
    const problems = await declare({ queues: [workQueue(named("one_two"))] });
    expect(problems[0]).toMatchObject({ code: "conflict", message: expect.stringContaining(named("one.two")) });
  });

  test("with more replicas than there are brokers is refused in Kafka's own words", async () => {
    const other = await openAdapter({ brokers: broker.brokers, replicationFactor: 5 });
    const problems = await other.adapter.declare(topology({ queues: [workQueue(named("replicated"))] }));
    await other.adapter.close();
    expect(problems[0]).toMatchObject({ code: "conflict", message: expect.stringContaining("INVALID_REPLICATION") });
  });

  test("by two at once, neither of which sets the subscription behind what the other's publishers sent", async () => {
    const subscription = subscriptionOf(named("raced"), "s");
    const sent: string[] = [];
    const declareAndSend = async (name: string): Promise<void> => {
      const own = await openAdapter({ brokers: broker.brokers });
      expect(await own.adapter.declare(topology({ subscriptions: [subscription] }))).toEqual([]);
      const results = await own.send(
        { kind: "topic", name: named("raced") },
        message(`${name}-1`),
        message(`${name}-2`),
      );
      expect(results.map(codeOf)).toEqual(["confirmed", "confirmed"]);
      sent.push(`${name}-1`, `${name}-2`);
      await own.adapter.close();
    };
    await Promise.all(["a", "b", "c", "d"].map(declareAndSend));
    const { sink, ids } = keepingSink();
    const receiver = await session.adapter.receive(subscription.address, { prefetch: 100, ordered: false }, sink);
    await until("all events", 30_000, () => expect(ids().sort()).toEqual([...sent].sort()));
    await receiver.close();
  });

  test("what is deleted while it is used is made again, and somebody is told", async () => {
    const { address } = workQueue(named("deleted"));
    expect(await declare({ queues: [workQueue(address.name)] })).toEqual([]);
    const { sink, ids } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 5, ordered: false }, sink);
    await session.send(address, message("before"));
    await until("the first", 30_000, () => expect(ids()).toEqual(["before"]));
    await deleteTopic(wire, admin, topicName(address));
    await until("a delivery from the new topic", 60_000, async () => {
      const [result] = await session.send(address, message("after"));
      expect(result?.status).toBe("confirmed");
      await until("it", 10_000, () => expect(ids()).toContain("after"));
    });
    await receiver.close();
    const told = session.notices.filter((notice) => notice.message.includes(`"${topicName(address)}"`));
    expect(told.map((notice) => notice.message).join()).toContain("created again");
  });

  test("a topic that nobody declared is not made by sending or receiving", async () => {
    const address = { kind: "queue", name: named("unknown") } as const;
    const [result] = await session.send(address, message("lost"));
    expect(codeOf(result)).toBe("not-found");
    const { sink } = keepingSink();
    await expect(session.adapter.receive(address, { prefetch: 1, ordered: false }, sink)).rejects.toMatchObject({
      code: "not-found",
    });
    await expect(session.adapter.depth(address)).rejects.toMatchObject({ code: "not-found" });
    expect(await admin.listTopics()).not.toContain(topicName(address));
  });
});

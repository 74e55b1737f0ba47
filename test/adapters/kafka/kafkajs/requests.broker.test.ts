import { Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { KafkaConnection } from "../../../../adapters/kafka/port.ts";
import type { Namespace } from "../../../brokers/kafka.ts";
import { describeKafka } from "../../../brokers/suite.ts";
import { until } from "../../../brokers/until.ts";
import { topicId } from "../../../kafka/topic-ids.ts";
import { batchOf, connectionTo, coordinatorOf, idOf, makeTopics, valuesIn } from "./wire.ts";

describeKafka("requests over kafkajs' connections", (broker) => {
  let place: Namespace;
  let connection: KafkaConnection;
  let topic: string;
  const node = 1;
  const missing = () => `${place.namePrefix}missing`;
  const named = (name: string) => `${place.namePrefix}${name}`;

  beforeAll(async () => {
    place = broker.newNamespace();
    connection = connectionTo(broker.brokers);
    topic = named("shared");
    await makeTopics(connection, 3, topic);
  });
  afterAll(async () => {
    await connection?.close();
    await place?.remove();
  });

  test("metadata tells topics apart, and makes none", async () => {
    const { clusterId, nodes, topics } = await connection.metadata([topic, missing(), "no topic!"]);
    expect([clusterId, nodes]).toEqual([expect.stringMatching(/./), [node]]);
    expect(topics.map(({ topic, id }) => [topic, id])).toEqual(
      expect.arrayContaining([
        [topic, expect.stringMatching(/^[\w-]{22}$/)],
        [missing(), ""],
      ]),
    );
    expect(Object.fromEntries(topics.map(({ topic, error }) => [topic, error]))).toEqual({
      [topic]: undefined,
      [missing()]: "UNKNOWN_TOPIC_OR_PARTITION",
      "no topic!": "INVALID_TOPIC_EXCEPTION",
    });
    const partitions = topics.find((found) => found.topic === topic)?.partitions;
    expect(partitions?.toSorted((a, b) => a.partition - b.partition)).toEqual(
      [0, 1, 2].map((partition) => ({ partition, error: undefined, leader: node, replicas: 1 })),
    );
    expect((await connection.metadata([])).topics).toEqual([]);
  });

  test("topics are made, each with an outcome", async () => {
    const specification = { partitions: 1, replicationFactor: 1, configuration: { "retention.ms": "-1" } };
    const outcomes = await connection.createTopics([
      { ...specification, topic: named("made") },
      { ...specification, topic },
      { ...specification, topic: named("odd"), configuration: { "no.such.thing": "1" } },
      { ...specification, topic: named("copied"), replicationFactor: 7 },
    ]);
    expect(Object.fromEntries(outcomes.map(({ topic, error }) => [topic, error]))).toEqual({
      [named("made")]: undefined,
      [topic]: "TOPIC_ALREADY_EXISTS",
      [named("odd")]: "INVALID_CONFIG",
      [named("copied")]: "INVALID_REPLICATION_FACTOR",
    });
    expect(outcomes.find(({ error }) => error === "INVALID_CONFIG")?.message).toContain("no.such.thing");

    const configurations = await until("the topic's configuration", 30_000, async () => {
      const answered = await connection.topicConfigurations([named("made"), missing()], ["retention.ms"]);
      if (answered[0]?.error !== undefined) throw new Error(answered[0].error);
      return answered;
    });
    expect(configurations).toEqual([
      { topic: named("made"), error: undefined, values: new Map([["retention.ms", "-1"]]) },
      { topic: missing(), error: "UNKNOWN_TOPIC_OR_PARTITION", values: new Map() },
    ]);
  });

  test("each producer has an identity of its own", async () => {
    const identity = () =>
      until("an identity", 30_000, async () => {
        const { error, ...given } = await connection.producerIdentity();
        if (error !== undefined) throw new Error(error);
        return given;
      });
    const [one, other] = [await identity(), await identity()];
    expect(typeof one.producerId).toBe("bigint");
    expect(one.producerId).not.toBe(other.producerId);
    expect(one.epoch).toBe(0);
  });

  test("what was produced is fetched, and every partition has its own outcome", async () => {
    const log = named("log");
    await makeTopics(connection, 3, log);
    const batches = [batchOf(log, 1, "c"), batchOf(missing(), 0, "x"), batchOf(log, 9, "y"), batchOf(log, 0, "a", "b")];
    expect(await connection.produce(node, batches, 5_000)).toEqual([
      { topic: log, partition: 1, error: undefined, baseOffset: 0 },
      { topic: missing(), partition: 0, error: "UNKNOWN_TOPIC_OR_PARTITION", baseOffset: -1 },
      { topic: log, partition: 9, error: "UNKNOWN_TOPIC_OR_PARTITION", baseOffset: -1 },
      { topic: log, partition: 0, error: undefined, baseOffset: 0 },
    ]);
    // Any kind of byte array, at any place of its buffer.
    const { batch } = batchOf(log, 0, "d");
    const shifted = new Uint8Array(batch.length + 7).subarray(7);
    shifted.set(batch);
    const shiftedBatch = { topic: log, topicId: await idOf(connection, log), partition: 0, batch: shifted };
    const [third] = await connection.produce(node, [shiftedBatch], 5_000);
    expect(third).toMatchObject({ error: undefined, baseOffset: 2 });

    const from = { maxWaitMs: 1_000, minBytes: 1, maxBytes: 1_000_000 };
    const logId = await idOf(connection, log);
    const wanted = (topic: string, partition: number, offset: number) => ({
      topic,
      topicId: topic === log ? logId : topicId(topic),
      partition,
      offset,
      maxBytes: 1_000_000,
    });
    const [ahead, gone, first, second] = await connection.fetch(node, {
      ...from,
      partitions: [wanted(log, 2, 50), wanted(missing(), 0, 0), wanted(log, 0, 0), wanted(log, 1, 0)],
    });
    expect(ahead).toMatchObject({ topic: log, partition: 2, error: "OFFSET_OUT_OF_RANGE" });
    expect(gone).toMatchObject({ topic: missing(), error: "UNKNOWN_TOPIC_ID", records: Buffer.alloc(0) });
    const around = { error: undefined, logStartOffset: 0, abortedTransactions: [] };
    expect(first).toMatchObject({ ...around, partition: 0, highWatermark: 3, lastStableOffset: 3 });
    expect(second).toMatchObject({ ...around, partition: 1, highWatermark: 1, lastStableOffset: 1 });
    expect(await valuesIn(first?.records ?? Buffer.alloc(0))).toEqual(["a", "b", "d"]);
    expect(await valuesIn(second?.records ?? Buffer.alloc(0))).toEqual(["c"]);
  });

  test("a fetch waits for records, and what is too large for the server is said of its partition", async () => {
    const log = named("waited");
    await makeTopics(connection, 2, log);
    const id = await idOf(connection, log);
    const wanted = [0, 1].map((partition) => ({ topic: log, topicId: id, partition, offset: 0, maxBytes: 1_000_000 }));
    const fetched = connection.fetch(node, { maxWaitMs: 60_000, minBytes: 1, maxBytes: 1_000_000, partitions: wanted });
    const outcomes = await connection.produce(
      node,
      [batchOf(log, 1, "x".repeat(2_000_000)), batchOf(log, 0, "a")],
      5_000,
    );
    expect(outcomes.map(({ error }) => error)).toEqual(["MESSAGE_TOO_LARGE", undefined]);
    const [first, second] = await fetched;
    expect(await valuesIn(first?.records ?? Buffer.alloc(0))).toEqual(["a"]);
    expect(second).toMatchObject({ error: undefined, records: Buffer.alloc(0) });
  });

  test("aborted transactions are told", async () => {
    const log = named("aborted");
    await makeTopics(connection, 1, log);
    const kafka = new Kafka({ brokers: [...broker.brokers], clientId: "aborts", logLevel: logLevel.NOTHING });
    const producer = kafka.producer({ transactionalId: named("aborts"), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    const transaction = await producer.transaction();
    await transaction.send({ topic: log, messages: [{ value: "never" }] });
    await transaction.abort();
    await producer.disconnect();
    const id = await idOf(connection, log);
    const partitions = [{ topic: log, topicId: id, partition: 0, offset: 0, maxBytes: 1_000_000 }];
    const fetched = await until("the end of the transaction", 30_000, async () => {
      const [answer] = await connection.fetch(node, { maxWaitMs: 100, minBytes: 1, maxBytes: 1_000_000, partitions });
      if (answer?.lastStableOffset !== 2) throw new Error(`stable up to ${answer?.lastStableOffset}`);
      return answer;
    });
    expect(fetched.abortedTransactions).toEqual([{ producerId: expect.any(BigInt) as bigint, firstOffset: 0 }]);
  });

  test("offsets are found by time and at both ends, also after records were deleted", async () => {
    const log = named("offsets");
    await makeTopics(connection, 2, log);
    const before = Date.now();
    await connection.produce(node, [batchOf(log, 0, "a")], 5_000);
    await connection.produce(node, [batchOf(log, 0, "b", "c")], 5_000);
    expect(
      await connection.deleteRecords(node, [
        { topic: log, partition: 0, offset: 1 },
        { topic: log, partition: 1, offset: 5 },
      ]),
    ).toEqual([
      { topic: log, partition: 0, error: undefined },
      { topic: log, partition: 1, error: "OFFSET_OUT_OF_RANGE" },
    ]);
    const find = async (at: "earliest" | "latest" | number) =>
      (
        await connection.listOffsets(node, [
          { topic: log, partition: 0, at },
          { topic: missing(), partition: 0, at },
        ])
      ).map(({ error, offset }) => error ?? offset);
    expect(await find("earliest")).toEqual([1, "UNKNOWN_TOPIC_OR_PARTITION"]);
    expect(await find("latest")).toEqual([3, "UNKNOWN_TOPIC_OR_PARTITION"]);
    expect(await find(before)).toEqual([1, "UNKNOWN_TOPIC_OR_PARTITION"]);
    expect(await find(Date.now() + 3_600_000)).toEqual([-1, "UNKNOWN_TOPIC_OR_PARTITION"]);
  });

  test("two members join, are assigned, commit and leave", async () => {
    const group = named("group");
    const other = connectionTo(broker.brokers);
    try {
      const coordinator = await coordinatorOf(connection, group);
      expect(await other.coordinator(group)).toEqual({ error: undefined, node: coordinator });
      const timeouts = { sessionTimeoutMs: 30_000, rebalanceTimeoutMs: 30_000 };
      const request = { group, memberId: "", protocol: "ours", metadata: Buffer.from("one"), ...timeouts };
      const asked = await connection.joinGroup(coordinator, request);
      expect(asked).toMatchObject({ error: "MEMBER_ID_REQUIRED", memberId: expect.stringMatching(/./) as string });
      const alone = await connection.joinGroup(coordinator, { ...request, memberId: asked.memberId });
      expect(alone).toEqual({
        error: undefined,
        generation: 1,
        leader: asked.memberId,
        memberId: asked.memberId,
        members: [{ memberId: asked.memberId, metadata: Buffer.from("one") }],
      });
      const assigned = (connection: KafkaConnection, joined: typeof alone) =>
        connection.syncGroup(coordinator, {
          group,
          memberId: joined.memberId,
          generation: joined.generation,
          assignments: joined.members.map(({ memberId, metadata }) => ({ memberId, assignment: metadata })),
        });
      expect(await assigned(connection, alone)).toEqual({ error: undefined, assignment: Buffer.from("one") });
      const first = { group, memberId: alone.memberId, generation: 1 };
      expect(await connection.heartbeat(coordinator, first)).toBeUndefined();
      expect(await connection.heartbeat(coordinator, { ...first, memberId: "nobody" })).toBe("UNKNOWN_MEMBER_ID");

      const { memberId } = await other.joinGroup(coordinator, request);
      const joining = other.joinGroup(coordinator, { ...request, memberId, metadata: Buffer.from("two") });
      await until("a rebalance", 30_000, async () => {
        expect(await connection.heartbeat(coordinator, first)).toBe("REBALANCE_IN_PROGRESS");
      });
      // While one is joining, its other requests are answered.
      expect(await other.describeGroup(coordinator, group)).toMatchObject({ state: "PreparingRebalance", members: 2 });
      const [again, joined] = await Promise.all([
        connection.joinGroup(coordinator, { ...request, memberId: alone.memberId }),
        joining,
      ]);
      expect([again.generation, joined.generation, joined.leader]).toEqual([2, 2, alone.memberId]);
      expect(again.members.map(({ metadata }) => String(metadata)).sort()).toEqual(["one", "two"]);
      expect(joined.members).toEqual([]);
      const assignments = await Promise.all([assigned(other, joined), assigned(connection, again)]);
      expect(assignments.map(({ assignment }) => String(assignment))).toEqual(["two", "one"]);
      expect(await connection.describeGroup(coordinator, group)).toEqual({
        error: undefined,
        state: "Stable",
        protocol: "classic",
        protocolType: "consumer",
        assignor: "ours",
        members: 2,
        clients: ["wire-test"],
      });

      const offset = (partition: number, metadata: string) => ({ topic, partition, offset: 7, metadata });
      const member = { group, memberId: joined.memberId, generation: 2 };
      expect(
        await other.commitOffsets(coordinator, { ...member, offsets: [offset(1, "x".repeat(5_000)), offset(0, "é✓")] }),
      ).toEqual([
        { topic, partition: 1, error: "OFFSET_METADATA_TOO_LARGE" },
        { topic, partition: 0, error: undefined },
      ]);
      const late = { ...member, generation: 1, offsets: [offset(0, "")] };
      expect(await other.commitOffsets(coordinator, late)).toEqual([
        { topic, partition: 0, error: "ILLEGAL_GENERATION" },
      ]);
      const both = [1, 0].map((partition) => ({ topic, partition }));
      expect(await connection.fetchOffsets(coordinator, group, both)).toEqual({
        error: undefined,
        offsets: [
          { topic, partition: 1, offset: -1, metadata: "", error: undefined },
          { topic, partition: 0, offset: 7, metadata: "é✓", error: undefined },
        ],
      });

      expect(await other.leaveGroup(coordinator, member)).toBeUndefined();
      expect(await other.leaveGroup(coordinator, member)).toBe("UNKNOWN_MEMBER_ID");
      expect(await connection.leaveGroup(coordinator, first)).toBeUndefined();
      expect(await connection.describeGroup(coordinator, group)).toMatchObject({
        error: undefined,
        state: "Empty",
        members: 0,
      });
      // Nobody is in it: offsets can be set from outside.
      const outside = { group, memberId: "", generation: -1, offsets: [offset(2, "set")] };
      expect(await connection.commitOffsets(coordinator, outside)).toEqual([{ topic, partition: 2, error: undefined }]);
    } finally {
      await other.close();
    }
  });

  test("a partition asked for twice is not sent", async () => {
    const twice = [batchOf(topic, 0, "a"), batchOf(topic, 1, "b"), batchOf(topic, 0, "c")];
    await expect(connection.produce(node, twice, 5_000)).rejects.toThrow("asked for twice");
  });

  test("an offset that is no number is not sent", async () => {
    const group = named("careful");
    const coordinator = await coordinatorOf(connection, group);
    const offsets = [{ topic, partition: 0, offset: Number.NaN, metadata: "" }];
    const commit = connection.commitOffsets(coordinator, { group, memberId: "", generation: -1, offsets });
    await expect(commit).rejects.toThrow("NaN is no offset");
    const { offsets: committed } = await connection.fetchOffsets(coordinator, group, offsets);
    expect(committed).toMatchObject([{ offset: -1 }]);
  });
});

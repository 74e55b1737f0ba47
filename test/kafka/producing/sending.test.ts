import { expect, test } from "vitest";
import type { PartitionBatch } from "../../../adapters/kafka/port.ts";
import { partitionOfKey } from "../../../adapters/kafka/producing/accumulator.ts";
import type { SendResult } from "../../../core/adapter.ts";
import { decode, valuesOf } from "../records/batches.ts";
import { withTurningCodec } from "../records/turning-codec.ts";
import { numbered, openHarness } from "./harness.ts";

/** A harness with a topic that is known already. */
async function openWarm(partitions: number, leader?: (partition: number) => number, options = {}) {
  const harness = await openHarness(options);
  const topic = harness.cluster.createTopic("t", partitions, leader);
  for (let partition = 0; partition < partitions; partition++) harness.send("t", [`warm${partition}`], { partition });
  await harness.settled(Array.from({ length: partitions }, (_, partition) => `warm${partition}`));
  for (const { values, received } of topic.partitions) values.length = received.length = 0;
  harness.cluster.produced.length = 0;
  harness.cluster.asked.length = 0;
  return { ...harness, topic };
}

test("a lone record goes out in the same turn, and is confirmed when it is stored", async () => {
  const { cluster, send, settled, outcomes, topic } = await openWarm(1);
  send("t", ["a"]);
  await Promise.resolve();
  expect(cluster.produced).toHaveLength(1);
  expect(outcomes(["a"])).toEqual([undefined]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
  expect(topic.partitions[0]?.values).toEqual(["a"]);
  expect(cluster.asked).toEqual([]);
});

test("what is sent before anything is known of the topic goes in order when it is", async () => {
  const { cluster, send, settled } = await openHarness();
  const topic = cluster.createTopic("t", 1);
  for (const value of ["a", "b", "c"]) send("t", [value]);
  await settled(["a", "b", "c"]);
  expect(topic.partitions[0]?.values).toEqual(["a", "b", "c"]);
  expect(cluster.produced).toHaveLength(1);
});

test("one request per leader, with a batch per partition", async () => {
  const { cluster, send, settled } = await openWarm(4, (partition) => partition % 2);
  for (let partition = 0; partition < 4; partition++) send("t", [`p${partition}`], { partition });
  await settled(["p0", "p1", "p2", "p3"]);
  const calls = cluster.produced.map(({ node, batches }) => [node, batches.map(({ partition }) => partition)]);
  expect(calls).toEqual([
    [0, [0, 2]],
    [1, [1, 3]],
  ]);
});

test("one batch per partition is in flight; what comes meanwhile goes together behind it, and others pass", async () => {
  const { elapse, cluster, send, settled, topic } = await openWarm(2);
  cluster.latency = () => 50;
  send("t", ["a"], { partition: 0 });
  await elapse(10);
  for (const value of ["b", "c", "d"]) send("t", [value], { partition: 0 });
  send("t", ["x"], { partition: 1 });
  await settled(["x"]);
  expect(topic.partitions[0]?.values).toEqual(["a"]);
  await settled(["a", "b", "c", "d"]);
  expect(topic.partitions[0]?.values).toEqual(["a", "b", "c", "d"]);
  expect(topic.partitions[0]?.received).toHaveLength(2);
});

test("keys land where Kafka's own clients put them", async () => {
  const { send, settled, topic } = await openWarm(5);
  const keys = numbered("key", 50);
  for (const key of keys) send("t", [`of ${key}`], { key });
  await settled(keys.map((key) => `of ${key}`));
  for (const key of keys) {
    expect(topic.partitions[partitionOfKey(Buffer.from(key), 5)]?.values).toContain(`of ${key}`);
  }
});

test("records without a key are spread evenly, large batches in runs", async () => {
  const { send, settled, topic } = await openWarm(4);
  for (const value of numbered("lone", 40)) {
    send("t", [value]);
    await settled([value]);
  }
  expect(topic.partitions.map(({ values }) => values.length)).toEqual([10, 10, 10, 10]);
  send("t", numbered("many", 800));
  await settled(numbered("many", 800));
  expect(topic.partitions.map(({ values }) => values.length)).toEqual([210, 210, 210, 210]);
  expect(topic.partitions.map(({ received }) => received.length)).toEqual([11, 11, 11, 11]);
});

test("records without a key avoid partitions without a leader", async () => {
  const { cluster, send, settled, topic } = await openHarness().then((harness) => ({
    ...harness,
    topic: harness.cluster.createTopic("t", 3, (partition) => (partition === 1 ? -1 : 0)),
  }));
  send("t", ["first"]);
  await settled(["first"]);
  for (const value of numbered("v", 20)) send("t", [value]);
  await settled(numbered("v", 20));
  expect(topic.partitions[1]?.values).toEqual([]);
  expect(cluster.produced.length).toBeGreaterThan(0);
});

test("a batch is limited in bytes, and a record over the limit goes alone", async () => {
  const { send, settled, topic } = await openWarm(1, undefined, { maxBatchBytes: 10_000 });
  const values = numbered("v", 30).map((value) => value.padEnd(1_000, "."));
  values.splice(10, 0, "large".padEnd(20_000, "."));
  send("t", values, { partition: 0 });
  await settled(values);
  const [partition] = topic.partitions;
  expect(partition?.values).toEqual(values);
  const sizes = partition?.received.map(({ length }) => length) ?? [];
  expect(sizes.filter((size) => size > 11_000)).toEqual([expect.closeTo(20_000, -3)]);
  expect(sizes).toHaveLength(6);
});

test("more partitions are used as soon as a look at the cluster shows them", async () => {
  const { elapse, cluster, send, settled } = await openWarm(1, undefined, { refreshMs: 1_000 });
  const grown = cluster.createTopic("t", 2);
  await elapse(1_500);
  for (const value of ["a", "b"]) send("t", [value]);
  await settled(["a", "b"]);
  expect(grown.partitions.map(({ values }) => values.length)).toEqual([1, 1]);
});

test("a record for a partition that the topic has not is rejected, others go", async () => {
  const { send, settled, outcomes, results } = await openWarm(2);
  send("t", ["nowhere"], { partition: 7 });
  send("t", ["here"], { partition: 1 });
  await settled(["nowhere", "here"]);
  expect(outcomes(["nowhere", "here"])).toEqual(["rejected not-found", "confirmed"]);
  expect(results.get("nowhere")).toMatchObject({ error: { message: expect.stringContaining('"t"') } });
});

test("compressed batches go in one request as well, and again as the same bytes", async () => {
  await withTurningCodec(async () => {
    const requests: PartitionBatch[][] = [];
    const { cluster, send, settled, outcomes } = await openHarness({
      compression: "snappy",
      connection: (own) => ({
        ...own,
        produce: async (_node, batches) => {
          requests.push([...batches]);
          const error = requests.length === 1 ? "REQUEST_TIMED_OUT" : undefined;
          return batches.map(({ topic, partition }) => ({ topic, partition, error, baseOffset: 0 }));
        },
      }),
    });
    cluster.createTopic("t", 2, () => 0);
    for (const [partition, value] of ["a", "b"].entries()) send("t", [value], { partition });
    await settled(["a", "b"]);
    expect(outcomes(["a", "b"])).toEqual(["confirmed", "confirmed"]);
    expect(requests.map((batches) => batches.length)).toEqual([2, 2]);
    expect(requests[1]?.map(({ batch }) => batch)).toEqual(requests[0]?.map(({ batch }) => batch));
    const stored = await Promise.all((requests[0] ?? []).map(({ batch }) => decode(Buffer.from(batch))));
    expect(stored.map(({ records }) => valuesOf(records))).toEqual([["a"], ["b"]]);
  });
});

test("what cannot be made into a batch is rejected, and the accumulator goes on", async () => {
  const { producer, send, settled, outcomes, topic } = await openWarm(1);
  const odd = Promise.withResolvers<SendResult>();
  const headers = [["a header", 5]] as unknown as [string, string][];
  producer.send("t", [{ key: undefined, value: undefined, headers }], (_, result) => odd.resolve(result));
  expect(await odd.promise).toMatchObject({ status: "rejected", error: { code: "invalid" } });
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
  expect(topic.partitions[0]?.values).toEqual(["a"]);
});

test("a compression that nothing here knows is refused when the producer is made", async () => {
  await expect(openHarness({ compression: "lz4" })).rejects.toMatchObject({ code: "unsupported" });
});

import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { sequenceAfter } from "../../../adapters/kafka/producing/accumulator.ts";
import { AT } from "../../../adapters/kafka/records/batch.ts";
import { decode, valuesOf } from "../records/batches.ts";
import type { Fate } from "./fake-cluster.ts";
import { type HarnessOptions, numbered, openHarness } from "./harness.ts";

/** A harness whose topic has one partition, and whose next requests have these fates. */
async function openScripted(fates: readonly Fate[], options: HarnessOptions = {}) {
  const harness = await openHarness(options);
  const topic = harness.cluster.createTopic("t", 1);
  const partition = topic.partitions[0] as (typeof topic.partitions)[0];
  const left = [...fates];
  harness.cluster.fate = () => left.shift() ?? "answered";
  return { ...harness, topic, partition, left };
}

const identityOf = (batch: Buffer) => batch.readBigInt64BE(AT.producerId);
const sequenceOf = (batch: Buffer) => batch.readInt32BE(AT.baseSequence);
/** What compresses takes time of this machine, and hours of the clock. */
const COMPRESSES = { deliveryTimeoutMs: 1_000_000_000 };
const A_LONG_TIME = { deliveryTimeoutMs: 1_000 };

test.each<[string, Fate]>([
  ["lost on its way", "lost"],
  ["whose answer was lost", "unanswered"],
  ["for which the replicas were too few", { error: "NOT_ENOUGH_REPLICAS" }],
  ["for which the replicas were too few afterwards", { error: "NOT_ENOUGH_REPLICAS_AFTER_APPEND", isDone: true }],
  ["for which the replicas took too long", { error: "REQUEST_TIMED_OUT", isDone: true }],
  ["at whose leader's end it was kept", { error: "NOT_LEADER_FOR_PARTITION", isDone: true }],
  ["with an error that nobody knows", { error: "UNKNOWN_123" }],
  ["with an error of the server", { error: "UNKNOWN", isDone: true }],
  ["to a partition that is not known yet", { error: "UNKNOWN_TOPIC_OR_PARTITION" }],
  ["damaged on its way", { error: "CORRUPT_MESSAGE" }],
])("a batch %s goes again, the same to the last byte, and is stored once", async (_, fate) => {
  const { cluster, partition, send, settled, outcomes } = await openScripted([fate, fate, fate]);
  const values = numbered("v", 10);
  send("t", values);
  await settled(values);
  expect(outcomes(values)).toEqual(values.map(() => "confirmed"));
  expect(partition.values).toEqual(values);
  expect(cluster.produced).toHaveLength(4);
  const [first, ...others] = cluster.produced.map(({ batches }) => Buffer.from(batches[0]?.batch ?? []));
  expect(others.every((other) => first?.equals(other))).toBe(true);
  expect(cluster.identities).toBe(1);
});

test("what comes behind a batch in doubt waits, and keeps its order", async () => {
  const { partition, send, settled } = await openScripted(["unanswered", "lost", "unanswered"]);
  send("t", ["a"]);
  await Promise.resolve();
  send("t", ["b"]);
  send("t", ["c"]);
  await settled(["a", "b", "c"]);
  expect(partition.values).toEqual(["a", "b", "c"]);
});

test("after a first failure it is tried again as soon as the cluster has told its leader", async () => {
  const { time, cluster, partition, send, settled } = await openScripted([]);
  send("t", ["warm"]);
  await settled(["warm"]);
  partition.leader = 2;
  const before = time.now;
  send("t", ["a"]);
  await settled(["a"]);
  expect(cluster.produced.map(({ node }) => node)).toEqual([0, 0, 2]);
  // Three round trips of the fake cluster, without any pause.
  expect(time.now - before).toBeLessThan(10);
});

test("a batch without a leader waits for one", async () => {
  const { cluster, partition, elapse, send, settled, outcomes } = await openScripted([]);
  partition.leader = -1;
  send("t", ["a"]);
  await elapse(5_000);
  expect(cluster.produced).toEqual([]);
  // Not asked on and on, but once a second at least.
  expect(cluster.asked.length).toBeGreaterThan(4);
  expect(cluster.asked.length).toBeLessThan(30);
  partition.leader = 1;
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
});

test("past its time a batch is unknown, and whatever waits behind it; later ones go under a new identity", async () => {
  const fates = Array<Fate>(200).fill("unanswered");
  const { partition, send, settled, outcomes, left } = await openScripted(["answered", ...fates], A_LONG_TIME);
  send("t", ["warm"]);
  await settled(["warm"]);
  partition.values.length = 0;
  send("t", ["a1", "a2"]);
  await Promise.resolve();
  send("t", ["b1", "b2"]);
  await settled(["a1", "a2", "b1", "b2"]);
  expect(outcomes(["a1", "a2", "b1", "b2"])).toEqual(Array(4).fill("unknown"));
  expect(partition.values).toEqual(["a1", "a2"]);
  left.length = 0;
  // As many, so that under the old sequence it would be taken for the first and dropped.
  send("t", ["c1", "c2"]);
  await settled(["c1", "c2"]);
  expect(outcomes(["c1", "c2"])).toEqual(["confirmed", "confirmed"]);
  expect(partition.values).toEqual(["a1", "a2", "c1", "c2"]);
  const [first] = partition.received;
  const last = partition.received.at(-1);
  expect(identityOf(first as Buffer)).not.toBe(identityOf(last as Buffer));
  expect(sequenceOf(last as Buffer)).toBe(0);
});

test("an identity that the broker does not go on with is changed, for that partition alone", async () => {
  const { cluster, send, settled, outcomes } = await openHarness();
  const topic = cluster.createTopic("t", 2);
  const both = async (name: string) => {
    for (const partition of [0, 1]) send("t", [`${name}${partition}`], { partition });
    await settled([`${name}0`, `${name}1`]);
    expect(outcomes([`${name}0`, `${name}1`])).toEqual(["confirmed", "confirmed"]);
  };
  await both("a");
  topic.partitions[0]?.pretend(1_000n, 77);
  await both("b");
  await both("c");
  expect(topic.partitions.map(({ values }) => values)).toEqual([
    ["a0", "b0", "c0"],
    ["a1", "b1", "c1"],
  ]);
  const identities = topic.partitions.map(({ received }) => received.map(identityOf));
  expect(identities).toEqual([
    [1_000n, 1_000n, 1_001n, 1_001n],
    [1_000n, 1_000n, 1_000n],
  ]);
  // A partition that needs a second one takes what is there already.
  topic.partitions[1]?.pretend(1_000n, 77);
  await both("d");
  expect(cluster.identities).toBe(2);
});

test.each(["OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"])(
  "%s: a new identity",
  async (error) => {
    const { cluster, partition, send, settled, outcomes } = await openScripted([{ error }, { error }]);
    send("t", ["a"]);
    await settled(["a"]);
    expect(outcomes(["a"])).toEqual(["confirmed"]);
    expect(partition.values).toEqual(["a"]);
    expect(cluster.identities).toBe(3);
  },
);

test("DUPLICATE_SEQUENCE_NUMBER is as good as stored", async () => {
  const { cluster, send, settled, outcomes } = await openScripted([{ error: "DUPLICATE_SEQUENCE_NUMBER" }]);
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
  expect(cluster.produced).toHaveLength(1);
});

test("sequence numbers count on, and begin anew behind the greatest", async () => {
  const { partition, send, settled } = await openScripted([]);
  for (let round = 0; round < 5; round++) {
    send("t", numbered(`r${round} `, 3));
    await settled(numbered(`r${round} `, 3));
  }
  expect(partition.received.map(sequenceOf)).toEqual([0, 3, 6, 9, 12]);
  expect(sequenceAfter(2 ** 31 - 1, 1)).toBe(0);
  expect(sequenceAfter(2 ** 31 - 2, 5)).toBe(3);
});

test("a batch that is too large is halved until it fits, a single record compressed or rejected, in order", async () => {
  const { cluster, topic, partition, send, settled, outcomes } = await openScripted([], COMPRESSES);
  topic.mostBytes = 5_000;
  const values = numbered("v", 40).map((value) => value.padEnd(1_000, "."));
  values[17] = `large ${randomBytes(9_000).toString("hex")}`;
  values[23] = "large as well".padEnd(9_000, ".");
  send("t", values);
  await settled(values);
  const expected = values.map((_, index) => (index === 17 ? "rejected too-large" : "confirmed"));
  expect(outcomes(values)).toEqual(expected);
  expect(partition.values).toEqual(values.filter((_, index) => index !== 17));
  // One more, behind the record that was refused.
  expect(cluster.identities).toBe(2);
});

test("a record that readers could not inflate is not compressed to fit: it is rejected, and others go", async () => {
  const { topic, partition, send, settled, outcomes } = await openScripted([], {
    ...COMPRESSES,
    maxInflatedBytes: 8_000,
  });
  topic.mostBytes = 5_000;
  const values = ["fits when compressed".padEnd(7_500, "."), "does not".padEnd(8_100, "."), "small"];
  send("t", values);
  await settled(values);
  expect(outcomes(values)).toEqual(["confirmed", "rejected too-large", "confirmed"]);
  expect(partition.values).toEqual([values[0], values[2]]);
});

test("batches of a producer that compresses are no larger than what readers inflate", async () => {
  const { partition, send, settled, outcomes } = await openScripted([], {
    ...COMPRESSES,
    compression: "gzip",
    maxInflatedBytes: 10_000,
  });
  const values = numbered("v", 20).map((value) => value.padEnd(2_000, "."));
  values.push("alone".padEnd(11_000, "."));
  send("t", values);
  await settled(values);
  expect(outcomes(values)).toEqual(values.map(() => "confirmed"));
  const limits = { maxInflatedBytes: 10_000 };
  const read = await Promise.all(partition.received.map((batch) => decode(batch, { limits })));
  expect(read.map(({ unreadable }) => unreadable)).toEqual(read.map(() => undefined));
  expect(read.flatMap(({ records }) => valuesOf(records))).toHaveLength(values.length);
});

test("a batch in doubt that is then too large is halved under a new identity", async () => {
  const { topic, partition, send, settled, outcomes, cluster } = await openScripted(["unanswered"]);
  cluster.fate = ((first) => () => {
    const fate = first;
    first = "answered";
    if (fate === "answered") topic.mostBytes = 3_000;
    return fate;
  })("unanswered" as Fate);
  const values = numbered("v", 4).map((value) => value.padEnd(1_000, "."));
  send("t", values);
  await settled(values);
  expect(outcomes(values)).toEqual(values.map(() => "confirmed"));
  expect(cluster.identities).toBeGreaterThan(1);
  // Stored before its answer was lost, and again: no message is lost.
  expect(partition.values).toEqual([...values, ...values]);
});

test("a record that the topic does not take is found and rejected alone", async () => {
  const { partition, send, settled, outcomes } = await openScripted([]);
  const values = numbered("v", 9);
  values[4] = "invalid";
  send("t", values);
  await settled(values);
  expect(outcomes(values)).toEqual(values.map((value) => (value === "invalid" ? "rejected refused" : "confirmed")));
  expect(partition.values).toEqual(values.filter((value) => value !== "invalid"));
});

test.each([
  ["TOPIC_AUTHORIZATION_FAILED", "unauthorized"],
  ["CLUSTER_AUTHORIZATION_FAILED", "unauthorized"],
  ["UNSUPPORTED_COMPRESSION_TYPE", "unsupported"],
  ["INVALID_TOPIC_EXCEPTION", "invalid"],
  ["INVALID_RECORD", "refused"],
])(
  "%s: rejected as %s, and the next goes under another identity, also where the batch is stored",
  async (error, code) => {
    for (const isDone of [false, true]) {
      const { partition, send, settled, outcomes, results } = await openScripted([{ error, isDone }]);
      send("t", ["a"]);
      await settled(["a"]);
      expect(outcomes(["a"])).toEqual([`rejected ${code}`]);
      expect(results.get("a")).toMatchObject({ error: { message: expect.stringContaining('"t"') } });
      // As many, so that under the old sequence it would be taken for the first and dropped.
      send("t", ["b"]);
      await settled(["b"]);
      expect(outcomes(["b"])).toEqual(["confirmed"]);
      expect(partition.values).toEqual(isDone ? ["a", "b"] : ["b"]);
    }
  },
);

test("a batch that is stored although its topic is said to be missing does not swallow the next", async () => {
  const error = "UNKNOWN_TOPIC_OR_PARTITION";
  const fates = Array<Fate>(200).fill({ error, isDone: true });
  const { cluster, partition, send, settled, outcomes, left } = await openScripted(["answered", ...fates]);
  send("t", ["warm"]);
  await settled(["warm"]);
  send("t", ["a"]);
  cluster.topicErrors.set("t", error);
  await settled(["a"]);
  cluster.topicErrors.clear();
  left.length = 0;
  send("t", ["b"]);
  await settled(["b"]);
  expect(outcomes(["a", "b"])).toEqual(["rejected not-found", "confirmed"]);
  expect(partition.values).toEqual(["warm", "a", "b"]);
});

test("what may have been stored is never called rejected", async () => {
  const { partition, send, settled, outcomes } = await openScripted([
    "unanswered",
    { error: "TOPIC_AUTHORIZATION_FAILED" },
  ]);
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["unknown"]);
  send("t", ["b"]);
  await settled(["b"]);
  expect(partition.values).toEqual(["a", "b"]);
});

test("an answer that does not speak of a partition leaves it in doubt", async () => {
  let isFirst = true;
  const { cluster, send, settled, outcomes } = await openHarness({
    connection: (own) => ({
      ...own,
      produce: async (node, batches, timeoutMs) => {
        const answered = await own.produce(node, batches, timeoutMs);
        const told = isFirst ? [] : answered;
        isFirst = false;
        return told;
      },
    }),
  });
  const topic = cluster.createTopic("t", 1);
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
  expect(topic.partitions[0]?.values).toEqual(["a"]);
  expect(cluster.produced).toHaveLength(2);
});

test("an identity that nobody may have any more rejects what needs one, and goes on when it may", async () => {
  const { cluster, partition, send, settled, outcomes } = await openScripted([{ error: "UNKNOWN_PRODUCER_ID" }]);
  send("t", ["known"]);
  await Promise.resolve();
  cluster.identityError = "CLUSTER_AUTHORIZATION_FAILED";
  await settled(["known"]);
  expect(outcomes(["known"])).toEqual(["rejected unauthorized"]);
  cluster.identityError = undefined;
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
  expect(partition.values).toEqual(["a"]);
});

test("an identity that is long in coming is asked for again and again", async () => {
  const { cluster, partition, elapse, send, settled } = await openScripted([{ error: "UNKNOWN_PRODUCER_ID" }]);
  cluster.identityError = "COORDINATOR_LOAD_IN_PROGRESS";
  send("t", ["a"]);
  await elapse(5_000);
  cluster.identityError = undefined;
  await settled(["a"]);
  expect(partition.values).toEqual(["a"]);
});

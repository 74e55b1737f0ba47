import { expect, test } from "vitest";
import { openHarness } from "./harness.ts";

test("a topic that does not exist is rejected by name, after a while in which it may appear", async () => {
  const { time, cluster, send, settled, outcomes, results } = await openHarness({ missingTopicGraceMs: 1_000 });
  const before = time.now;
  send("nowhere", ["a", "b"]);
  await settled(["a", "b"]);
  expect(outcomes(["a", "b"])).toEqual(["rejected not-found", "rejected not-found"]);
  expect(results.get("a")).toMatchObject({ error: { message: expect.stringContaining('"nowhere"') } });
  expect(time.now - before).toBeGreaterThanOrEqual(1_000);
  expect(cluster.produced).toEqual([]);
});

test("a topic that appears meanwhile takes what waited for it, in order", async () => {
  const { cluster, elapse, send, settled, outcomes } = await openHarness();
  send("late", ["a"]);
  send("late", ["b"]);
  await elapse(500);
  const topic = cluster.createTopic("late", 1);
  await settled(["a", "b"]);
  expect(outcomes(["a", "b"])).toEqual(["confirmed", "confirmed"]);
  expect(topic.partitions[0]?.values).toEqual(["a", "b"]);
});

test("each missing topic has its while anew", async () => {
  const { cluster, elapse, send, settled, outcomes } = await openHarness({ refreshMs: 500 });
  send("late", ["a"]);
  await settled(["a"]);
  await elapse(60_000);
  send("late", ["b"]);
  await elapse(500);
  cluster.createTopic("late", 1);
  await settled(["b"]);
  expect(outcomes(["a", "b"])).toEqual(["rejected not-found", "confirmed"]);
});

test("a topic that is deleted while running is rejected by name, one made anew is written to", async () => {
  const { cluster, send, settled, outcomes } = await openHarness();
  cluster.createTopic("t", 2);
  send("t", ["a"], { partition: 0 });
  await settled(["a"]);
  cluster.topics.delete("t");
  send("t", ["b"], { partition: 0 });
  await Promise.resolve();
  send("t", ["c"], { partition: 0 });
  await settled(["b", "c"]);
  expect(outcomes(["b", "c"])).toEqual(["rejected not-found", "rejected not-found"]);
  const anew = cluster.createTopic("t", 2);
  send("t", ["d"], { partition: 0 });
  await settled(["d"]);
  expect(outcomes(["d"])).toEqual(["confirmed"]);
  expect(anew.partitions[0]?.values).toEqual(["d"]);
});

test.each([
  ["is told which topic is meant", true],
  ["only knows topics by name", false],
])(
  "what is sent goes to the topic that was made again, by a server that %s, and somebody is told",
  async (_, isTold) => {
    const { cluster, send, settled, outcomes, signals, elapse } = await openHarness();
    cluster.isTold = isTold;
    cluster.createTopic("t", 2);
    send("t", ["a", "b", "c"], { partition: 1 });
    await settled(["a", "b", "c"]);
    // What is under way then goes again, under the same sequence numbers, which the new log takes as its first.
    cluster.fate = () => "unanswered";
    send("t", ["d", "e"], { partition: 1 });
    await elapse(20);
    const anew = cluster.createTopic("t", 2);
    cluster.fate = () => "answered";
    send("t", ["f"], { partition: 1 });
    await settled(["d", "e", "f"]);
    expect(outcomes(["d", "e", "f"])).toEqual(["confirmed", "confirmed", "confirmed"]);
    await elapse(30_000);
    send("t", ["g"], { partition: 1 });
    await settled(["g"]);
    expect(anew.partitions[1]?.values).toEqual(["d", "e", "f", "g"]);
    expect(cluster.identities).toBe(1);
    expect(signals).toEqual([expect.stringContaining('topic "t" on Kafka was deleted and made again')]);
  },
);

test.each([
  ["TOPIC_AUTHORIZATION_FAILED", "unauthorized"],
  ["INVALID_TOPIC_EXCEPTION", "invalid"],
])("a topic of which metadata says %s", async (error, code) => {
  const { cluster, send, settled, outcomes } = await openHarness();
  cluster.topicErrors.set("t", error);
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual([`rejected ${code}`]);
});

test("a topic whose leaders are not elected yet is waited for", async () => {
  const { cluster, elapse, send, settled, outcomes } = await openHarness();
  cluster.createTopic("t", 1);
  cluster.topicErrors.set("t", "LEADER_NOT_AVAILABLE");
  send("t", ["a"]);
  await elapse(5_000);
  cluster.topicErrors.clear();
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["confirmed"]);
});

test("a topic that stays without leaders leaves the message unknown", async () => {
  const { cluster, send, settled, outcomes } = await openHarness({ deliveryTimeoutMs: 2_000 });
  cluster.topicErrors.set("t", "LEADER_NOT_AVAILABLE");
  send("t", ["a"]);
  await settled(["a"]);
  expect(outcomes(["a"])).toEqual(["unknown"]);
});

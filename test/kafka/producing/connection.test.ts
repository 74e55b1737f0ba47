import { expect, test } from "vitest";
import { numbered, openHarness } from "./harness.ts";

test("opening rejects if nobody answers", async () => {
  const silent = openHarness({
    prepare: (cluster) => {
      cluster.isReachable = false;
    },
  });
  await expect(silent).rejects.toMatchObject({ code: "unreachable" });
});

test("without the right to write anywhere it opens, and says so when something is to be written", async () => {
  const { cluster, send, settled, outcomes } = await openHarness({
    prepare: (cluster) => {
      cluster.identityError = "CLUSTER_AUTHORIZATION_FAILED";
    },
  });
  cluster.createTopic("t", 1);
  send("t", ["refused"]);
  await settled(["refused"]);
  cluster.identityError = undefined;
  send("t", ["granted meanwhile"]);
  await settled(["granted meanwhile"]);
  expect(outcomes(["refused", "granted meanwhile"])).toEqual(["rejected unauthorized", "confirmed"]);
});

test("while no broker answers, new sends are unknown at once, and those handed over are kept", async () => {
  const { time, cluster, producer, signals, send, settled, outcomes } = await openHarness();
  const topic = cluster.createTopic("t", 1);
  send("t", ["warm"]);
  await settled(["warm"]);
  expect(producer.isConnected).toBe(true);
  cluster.isReachable = false;
  send("t", ["kept"]);
  await time.until(() => !producer.isConnected, Number.POSITIVE_INFINITY);
  expect(signals).toEqual(["down"]);
  send("t", numbered("refused", 3));
  expect(outcomes(numbered("refused", 3))).toEqual(["unknown", "unknown", "unknown"]);
  expect(outcomes(["kept"])).toEqual([undefined]);
  cluster.isReachable = true;
  await settled(["kept"]);
  expect(outcomes(["kept"])).toEqual(["confirmed"]);
  expect(signals).toEqual(["down", "up"]);
  send("t", ["after"]);
  await settled(["after"]);
  expect(topic.partitions[0]?.values).toEqual(["warm", "kept", "after"]);
});

test("an outage is seen without anything being sent, and said once", async () => {
  const { cluster, elapse, signals, producer } = await openHarness({ refreshMs: 1_000 });
  cluster.isReachable = false;
  await elapse(60_000);
  expect(signals).toEqual(["down"]);
  const asked = cluster.asked.length;
  // About once a second.
  expect(asked).toBeGreaterThan(40);
  expect(asked).toBeLessThan(140);
  cluster.isReachable = true;
  await elapse(2_000);
  expect(signals).toEqual(["down", "up"]);
  expect(producer.isConnected).toBe(true);
});

test("a single connection that broke unseen is no outage", async () => {
  const { cluster, elapse, signals, send, settled, outcomes } = await openHarness();
  cluster.createTopic("t", 1);
  send("t", ["a"]);
  await settled(["a"]);
  cluster.fate = () => {
    cluster.fate = () => "answered";
    return "lost";
  };
  send("t", ["b"]);
  await settled(["b"]);
  await elapse(20_000);
  expect(outcomes(["b"])).toEqual(["confirmed"]);
  expect(signals).toEqual([]);
});

test("what is kept over an outage is unknown when its time is over", async () => {
  const { cluster, send, settled, outcomes } = await openHarness({ deliveryTimeoutMs: 5_000 });
  cluster.createTopic("t", 1);
  send("t", ["known"]);
  await settled(["known"]);
  cluster.isReachable = false;
  send("t", ["a"]);
  send("other", ["b"]);
  await settled(["a", "b"]);
  expect(outcomes(["a", "b"])).toEqual(["unknown", "unknown"]);
});

test("closing reports everything under way as unknown, once, and nothing is left running", async () => {
  const { clock, cluster, elapse, producer, send, outcomes, results } = await openHarness();
  cluster.createTopic("t", 1);
  send("t", ["in flight"]);
  await elapse(2);
  send("t", ["behind"]);
  send("nowhere", ["waiting"]);
  producer.close();
  producer.close();
  const all = ["in flight", "behind", "waiting"];
  expect(outcomes(all)).toEqual(["unknown", "unknown", "unknown"]);
  expect(results.get("behind")).toMatchObject({ cause: { code: "closed" } });
  await elapse(60_000);
  expect(clock.pending).toBe(0);
  send("t", ["after"]);
  expect(outcomes(["after"])).toEqual(["unknown"]);
  expect(producer.isConnected).toBe(false);
});

test("what is held is bounded in bytes", async () => {
  const { cluster, send, settled, outcomes, results } = await openHarness({ deliveryTimeoutMs: 1_000 });
  cluster.topicErrors.set("t", "LEADER_NOT_AVAILABLE");
  const large = numbered("x", 70).map((value) => value.padEnd(1_000_000, "."));
  for (const value of large) send("t", [value]);
  expect(outcomes(large).filter((status) => status !== undefined).length).toBeGreaterThan(0);
  expect(results.get(large.at(-1) as string)).toMatchObject({ cause: { code: "overloaded" } });
  await settled(large);
  cluster.topicErrors.clear();
  cluster.createTopic("t", 1);
  send("t", ["small"]);
  await settled(["small"]);
  expect(outcomes(["small"])).toEqual(["confirmed"]);
});

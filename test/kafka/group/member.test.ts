import { expect, test } from "vitest";
import { deaden, restore } from "./fake-cluster.ts";
import type { ConsumerTimes, FakeConsumer } from "./fake-consumer.ts";
import { World } from "./world.ts";

const ORDERS = { orders: 8 };
const at = (partition: number, offset: number, metadata = "consumer-1") => ({
  topic: "orders",
  partition,
  offset,
  metadata,
});

/** A group in which so many members have what is theirs. */
async function settled(
  count: number,
  topics: Readonly<Record<string, number>> = ORDERS,
  times: Partial<ConsumerTimes> = {},
) {
  const world = new World("member", topics);
  for (let index = 0; index < count; index++) world.join(times);
  await reached(world, () => world.running.length === count && world.isCalm());
  return world;
}

async function reached(world: World, condition: () => boolean, ms?: number): Promise<void> {
  if (!(await world.until(condition, ms))) throw new Error(`not reached:\n${world.log.slice(-40).join("\n")}`);
}

async function resultOf<Result>(world: World, work: Promise<Result>): Promise<Result> {
  let result: { readonly of: Result } | undefined;
  void work.then((of) => {
    result = { of };
  });
  await reached(world, () => result !== undefined);
  return (result as unknown as { readonly of: Result }).of;
}

function only(consumers: readonly FakeConsumer[], index = 0): FakeConsumer {
  const consumer = consumers[index];
  if (consumer === undefined) throw new Error(`there is no consumer ${index}`);
  return consumer;
}

/** Commits only what a test commits. */
const quiet = { commitEveryMs: 1e9 };

test("members that join and leave disturb nobody: what moves is let go first, and goes to those who join", async () => {
  const world = await settled(1);
  const before = new Map(world.shares());
  for (let joins = 0; joins < 3; joins++) {
    world.join();
    await reached(world, () => world.running.length === joins + 2 && world.isCalm());
    for (const [name, keys] of before) {
      expect(keys).toEqual(expect.arrayContaining([...(world.shares().get(name) ?? [])]));
    }
    for (const [name, keys] of world.shares()) before.set(name, keys);
  }
  const revoked = world.consumers.map(({ revokedKeys }) => revokedKeys.length);
  await reached(world, () => world.isCalm());
  void only(world.consumers).close();
  await reached(world, () => world.running.length === 3 && world.isCalm());
  for (const { name } of world.running) {
    expect(world.shares().get(name)).toEqual(expect.arrayContaining([...(before.get(name) ?? [])]));
  }
  expect(world.consumers.map(({ revokedKeys }) => revokedKeys.length)).toEqual(revoked);
  expect(world.consumers.flatMap(({ lostKeys }) => lostKeys)).toEqual([]);
  expect(world.violations).toEqual([]);
});

test("a member that dies without a word is missed after its session", async () => {
  const world = await settled(3);
  only(world.consumers).kill();
  await reached(world, () => world.running.length === 2 && world.isCalm());
  expect(world.running.flatMap(({ lostKeys }) => lostKeys)).toEqual([]);
  expect(world.violations).toEqual([]);
});

test("whoever is removed by others hears of it with the next heartbeat, and comes back", async () => {
  const world = await settled(2, ORDERS, quiet);
  world.coordinator.evict(world.coordinator.memberIds[0] ?? "");
  await reached(world, () => world.consumers.some(({ lostKeys }) => lostKeys.length === 4), 2_000);
  await reached(world, () => world.isCalm());
  expect(world.coordinator.memberIds).toHaveLength(2);
});

test("a process that stood still for longer than its session has lost everything before it does anything more", async () => {
  const world = await settled(2);
  const consumer = only(world.consumers);
  consumer.clock.pause();
  await reached(world, () => world.running.length === 1 && world.isCalm());
  consumer.clock.resume();
  expect(consumer.works.size).toBe(0);
  await reached(world, () => world.running.length === 2 && world.isCalm());
  expect(world.violations).toEqual([]);
});

test("partitions are kept over a coordinator that is away for less than the session", async () => {
  const world = await settled(3);
  world.cluster.isOtherUp = false;
  world.cluster.failOver(3_000, 2_000);
  await world.pass(5_000);
  await reached(world, () => world.isCalm());
  await world.pass(20_000);
  expect(world.isCalm()).toBe(true);
  expect(world.consumers.flatMap(({ lostKeys, revokedKeys }) => [...lostKeys, ...revokedKeys])).toEqual([]);
});

test("a member that is never done letting go loses what it was to let go, and nothing else", async () => {
  const world = await settled(1, ORDERS, { drainMs: "never", rebalanceTimeoutMs: 15_000 });
  world.join();
  await reached(world, () => world.running.length === 2 && world.isCalm());
  const stuck = only(world.consumers);
  expect(stuck.lostKeys.sort()).toEqual(stuck.revokedKeys.sort());
  expect(stuck.lostKeys).toHaveLength(4);
  expect(world.violations).toEqual([]);
});

test("a member that joins is complete when it has its share, and at once if there is none for it", async () => {
  const world = await settled(1, { orders: 2 }, { drainMs: 8_000 });
  const second = world.join();
  let sizeThen: number | undefined;
  void second.member.complete.then(() => {
    sizeThen = second.works.size;
  });
  await reached(world, () => sizeThen !== undefined);
  expect(sizeThen).toBe(1);
  await reached(world, () => world.isCalm());
  await resultOf(world, world.join().member.complete);
  expect(world.violations).toEqual([]);
});

test("a rebalance waits for no drain: others come and go meanwhile", async () => {
  const world = await settled(1, ORDERS, { drainMs: "never", rebalanceTimeoutMs: 1e7 });
  world.join();
  await reached(world, () => only(world.consumers).revokedKeys.length === 4);
  const third = world.join();
  await reached(world, () => world.coordinator.memberIds.length === 3 && world.coordinator.state === "Stable");
  void third.close();
  await reached(world, () => world.coordinator.memberIds.length === 2 && world.coordinator.state === "Stable");
  expect(only(world.consumers).works.size).toBe(8);
});

test("what the group left with its owner after all comes back to it anew", async () => {
  const world = await settled(1, ORDERS, { drainMs: 8_000 });
  const first = only(world.consumers);
  const second = world.join();
  await reached(world, () => first.revokedKeys.length === 4);
  void second.close();
  await reached(world, () => world.coordinator.memberIds.length === 1 && world.isCalm());
  expect(first.works.size).toBe(8);
  expect(first.lostKeys).toEqual([]);
});

test("commits go on while a member that stands still holds up a rebalance", async () => {
  const world = await settled(2);
  const [first, second] = [only(world.consumers), only(world.consumers, 1)];
  second.clock.pause();
  world.join();
  await reached(world, () => world.coordinator.state === "PreparingRebalance");
  const [key = ""] = first.works.keys();
  const before = world.coordinator.offsets.get(key)?.offset ?? -1;
  await world.pass(4_000);
  expect(world.coordinator.state).toBe("PreparingRebalance");
  expect(world.coordinator.offsets.get(key)?.offset).toBeGreaterThan(before);
});

test("a commit is answered for each partition: committed, fenced where it is not ours, failed where it is refused", async () => {
  const world = await settled(2, ORDERS, quiet);
  const first = only(world.consumers);
  const [own = 0] = [...first.works.values()].map(({ partition }) => partition);
  const [other = 0] = [...only(world.consumers, 1).works.values()].map(({ partition }) => partition);
  const long = "x".repeat(5_000);
  expect(await resultOf(world, first.member.commit([at(other, 1), at(own, 1)]))).toEqual(["fenced", "committed"]);
  expect(await resultOf(world, first.member.commit([at(own, 2, long)]))).toEqual(["failed"]);
  expect(first.failures.map(({ code }) => code)).toEqual(["too-large"]);
  expect(await resultOf(world, first.member.commit([]))).toEqual([]);
  const found = await resultOf(world, first.member.committed([at(own, 0), at(other, 0)]));
  expect(found.map(({ offset, error }) => [offset, error])).toEqual([
    [1, undefined],
    [-1, undefined],
  ]);
});

test("a commit begun before a partition was lost is not done when it is ours again", async () => {
  const world = await settled(1, { orders: 1 }, quiet);
  const first = only(world.consumers);
  first.line.weather = "silent";
  const commit = first.member.commit([at(0, 1)]);
  await reached(world, () => first.lostKeys.length === 1);
  restore(first.line);
  await reached(world, () => first.works.size === 1);
  expect(await resultOf(world, commit)).toEqual(["fenced"]);
});

test("a commit without an answer is tried again in the next generation, and cannot be done late", async () => {
  const world = await settled(1, { orders: 1 }, { ...quiet, sessionTimeoutMs: 30_000 });
  const first = only(world.consumers);
  const { generation } = world.coordinator;
  world.cluster.freeze(22_000);
  expect(await resultOf(world, first.member.commit([at(0, 1)]))).toEqual(["failed"]);
  expect(await resultOf(world, first.member.commit([at(0, 2)]))).toEqual(["failed"]);
  expect(await resultOf(world, first.member.commit([at(0, 3)]))).toEqual(["committed"]);
  await world.pass(10_000);
  expect(world.coordinator.generation).toBeGreaterThan(generation);
  expect(world.coordinator.offsets.get("orders/0")?.offset).toBe(3);
  expect(first.lostKeys).toEqual([]);
  expect(world.violations).toEqual([]);
});

test("whoever comes back after it lost everything begins in a new generation, so that nothing of before is done in it", async () => {
  const world = new World("back", ORDERS, 1_000);
  // Both in the first round, so that it joined once, with nothing in its hands.
  world.join(quiet);
  await world.pass(200);
  const follower = world.join(quiet);
  await reached(world, () => world.isCalm());
  const { generation } = world.coordinator;
  follower.line.weather = "silent";
  // The next coordinator takes everybody for alive once more.
  await world.pass(8_500);
  world.cluster.failOver(500, 500);
  await reached(world, () => follower.lostKeys.length === 4);
  await world.pass(500);
  restore(follower.line);
  await reached(world, () => world.isCalm());
  expect(world.coordinator.memberIds).toHaveLength(2);
  expect(world.coordinator.generation).toBeGreaterThan(generation);
});

test("connections that are open on this side only are given up in time", async () => {
  const world = await settled(2, ORDERS, { sessionTimeoutMs: 30_000 });
  for (const { line } of world.consumers) deaden(line);
  await world.pass(12_000);
  const before = new Map(world.coordinator.offsets);
  await world.pass(15_000);
  for (const [key, { offset }] of world.coordinator.offsets) {
    expect(offset).toBeGreaterThan(before.get(key)?.offset ?? -1);
  }
  expect(world.consumers.flatMap(({ lostKeys }) => lostKeys)).toEqual([]);
});

test("a topic that does not exist is reported until it does; nobody is told to create it", async () => {
  const world = new World("missing", { orders: 2 });
  const both = ["orders", "orders.own"];
  const first = world.join({}, both);
  const second = world.join({}, both);
  await reached(world, () => first.failures.length > 0 && second.failures.length > 0);
  for (const { failures } of world.consumers) {
    expect(failures.every(({ code, message }) => code === "not-found" && message.includes("orders.own"))).toBe(true);
  }
  world.cluster.topics.set("orders.own", 2);
  await reached(world, () => world.isCalm(), 10_000);
  expect(first.works.size + second.works.size).toBe(4);
});

test("new partitions are found within half a minute, or when somebody asks", async () => {
  const world = await settled(2, { orders: 2 });
  world.cluster.topics.set("orders", 4);
  await reached(world, () => world.isCalm(), 35_000);
  world.cluster.topics.set("orders", 8);
  await world.pass(2_000);
  for (const { member } of world.consumers) member.refresh();
  await reached(world, () => world.isCalm(), 5_000);
  expect(world.consumers.flatMap(({ lostKeys, revokedKeys }) => [...lostKeys, ...revokedKeys])).toEqual([]);
});

test("a topic that a server does not know for a moment is kept; one that is gone is lost", async () => {
  const world = await settled(2, { orders: 4 });
  const { generation } = world.coordinator;
  world.cluster.isForgetful = true;
  for (let second = 0; second < 8; second++) {
    for (const { member } of world.consumers) member.refresh();
    await world.pass(1_000);
  }
  world.cluster.isForgetful = false;
  await world.pass(60_000);
  expect(world.coordinator.generation).toBe(generation);
  expect(world.consumers.flatMap(({ lostKeys, revokedKeys }) => [...lostKeys, ...revokedKeys])).toEqual([]);

  world.cluster.topics.delete("orders");
  await reached(world, () => world.consumers.every(({ works }) => works.size === 0));
  expect(world.consumers.flatMap(({ lostKeys }) => lostKeys).sort()).toEqual(
    [0, 1, 2, 3].map((one) => `orders/${one}`),
  );
  expect(world.consumers.flatMap(({ failures }) => failures.map(({ code }) => code))).toContain("not-found");
  world.cluster.topics.set("orders", 4);
  await reached(world, () => world.isCalm());
});

test.each([
  ["GROUP_AUTHORIZATION_FAILED", "unauthorized"],
  ["INVALID_SESSION_TIMEOUT", "invalid"],
  ["INCONSISTENT_GROUP_PROTOCOL", "conflict"],
])("%s is told as %s, and tried again slowly", async (error, code) => {
  const world = new World("refused", ORDERS);
  world.cluster.errors.set("joinGroup", error);
  const consumer = world.join();
  await world.pass(60_000);
  expect(new Set(consumer.failures.map((failure) => failure.code))).toEqual(new Set([code]));
  expect(consumer.failures.length).toBeGreaterThan(10);
  expect(consumer.failures.length).toBeLessThan(30);
  world.cluster.errors.clear();
  await reached(world, () => world.isCalm());
});

test("a cluster that cannot be reached is reported, and asked with growing pauses", async () => {
  const world = new World("unreachable", ORDERS);
  world.cluster.isUp = false;
  const consumer = world.join();
  await world.pass(60_000);
  expect(new Set(consumer.failures.map(({ code }) => code))).toEqual(new Set(["unreachable"]));
  expect(consumer.failures.length).toBeGreaterThan(10);
  expect(consumer.failures.length).toBeLessThan(40);
  world.cluster.isUp = true;
  await reached(world, () => world.isCalm());
});

test.each([0, 10, 40, 100, 1_010, 2_000])("closed %i ms after it began, it is gone and calls nobody", async (ms) => {
  const world = await settled(1);
  const consumer = world.join();
  await world.pass(ms);
  void consumer.close();
  await reached(world, () => consumer.isDead, 10_000);
  expect(consumer.clock.pending).toBe(0);
  await reached(world, () => world.coordinator.memberIds.length === 1 && world.isCalm());
  expect(consumer.callsAfterClose).toBe(0);
});

test("closing takes no longer where nobody answers, and leaves no timer", async () => {
  const world = await settled(2, ORDERS, { drainMs: "never", rebalanceTimeoutMs: 1e7 });
  world.join();
  await reached(world, () => world.consumers.some(({ revokedKeys }) => revokedKeys.length > 0));
  for (const { line } of world.consumers) line.weather = "silent";
  const asked = only(world.consumers).member.committed([at(0, 0)]);
  const committing = only(world.consumers).member.commit([at(0, 1), at(1, 1), at(2, 1), at(3, 1)]);
  const failure = asked.catch((error: { readonly code: string }) => error.code);
  for (const consumer of world.consumers) void consumer.close();
  await reached(world, () => world.consumers.every(({ isDead }) => isDead), 5_000);
  expect(await resultOf(world, failure)).toBe("closed");
  expect(new Set(await resultOf(world, committing))).toEqual(new Set(["fenced"]));
  for (const { clock, callsAfterClose } of world.consumers) expect([clock.pending, callsAfterClose]).toEqual([0, 0]);
});

test("an answer that comes after it was closed is told to nobody", async () => {
  const world = await settled(1, ORDERS, quiet);
  const consumer = only(world.consumers);
  const commit = consumer.member.commit([at(0, 1, "x".repeat(5_000))]);
  void consumer.close();
  await resultOf(world, commit);
  await reached(world, () => consumer.isDead);
  expect(consumer.callsAfterClose).toBe(0);
});

test("a second close waits for the first", async () => {
  const world = await settled(1);
  const { member } = only(world.consumers);
  expect(member.close()).toBe(member.close());
});

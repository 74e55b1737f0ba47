import { expect, test } from "vitest";
import { MessagingError } from "../../../core/errors.ts";
import { newRow, numbered, RelayWorld } from "./relay-world.ts";

const HOUR_MS = 3_600_000;

/** Counts the calls to the store by name. */
function counted(world: RelayWorld): Map<string, number> {
  const calls = new Map<string, number>();
  world.judgeCall = (call) => {
    calls.set(call, (calls.get(call) ?? 0) + 1);
    return "none";
  };
  return calls;
}

test("a store that gives fewer rows than there are is asked until it has none", async () => {
  const world = new RelayWorld();
  const { outbox } = world;
  const claim = outbox.claim.bind(outbox);
  outbox.claim = (request) => claim({ ...request, limit: Math.min(request.limit, 3) });
  world.insert(...numbered("m", 60).map((id) => newRow(id)));
  await world.relay("a", { pollMs: HOUR_MS });
  expect(await world.until(() => world.stored.length === 60, 10_000)).toBe(true);
});

test("what is confirmed while two calls are under way is settled together", async () => {
  const world = new RelayWorld();
  const calls = counted(world);
  world.latencyMs = () => 10;
  world.insert(...numbered("m", 2_000).map((id) => newRow(id)));
  const { relay } = await world.relay("a", { batchSize: 500, clean: false });
  await world.finish(relay.drain());
  // The adapter takes twenty to a batch: a call for each would be a hundred.
  expect(calls.get("settle")).toBeLessThan(50);
});

test("a lone row is settled at once", async () => {
  const world = new RelayWorld();
  world.latencyMs = () => 0;
  world.insert(newRow("m"));
  await world.relay("a", { pollMs: HOUR_MS, clean: false });
  expect(await world.until(() => world.outbox.sent.length === 1, 0)).toBe(true);
});

test("nothing to send costs one claim to a poll", async () => {
  const world = new RelayWorld();
  const calls = counted(world);
  await world.relay("a", { pollMs: 1_000, clean: { everyMs: 10_000 } });
  await world.pass(60_000);
  expect(calls.get("claim")).toBeGreaterThanOrEqual(60);
  expect(calls.get("claim")).toBeLessThanOrEqual(76);
  expect(calls.get("renew")).toBeUndefined();
  expect(calls.get("settle")).toBeUndefined();
  expect(calls.get("clean")).toBeLessThanOrEqual(7);
});

test("small claims are bounded in number", async () => {
  const world = new RelayWorld();
  const { outbox } = world;
  const claim = outbox.claim.bind(outbox);
  outbox.claim = (request) => claim({ ...request, limit: 1 });
  const process = await world.relay("a", { leaseMs: HOUR_MS });
  process.adapter.send = () => {};
  world.insert(...numbered("m", 200).map((id) => newRow(id)));
  await world.pass(20_000);
  expect((await world.finish(process.relay.status())).held).toBe(64);
});

test("a store that cannot wake the relay is told of, and polled", async () => {
  const world = new RelayWorld();
  Object.assign(world.outbox, {
    listen: () => Promise.reject(new MessagingError("unauthorized", "nobody may listen")),
  });
  const process = await world.relay("a");
  await world.pass(100);
  world.insert(newRow("m"));
  expect(await world.until(() => world.stored.length === 1, 5_000)).toBe(true);
  expect(process.events).toMatchObject([{ type: "store-failed", call: "listen", error: { code: "unauthorized" } }]);
  await world.finish(process.relay.stop());
});

test("starting twice is starting once", async () => {
  const world = new RelayWorld();
  const calls = counted(world);
  const { relay } = await world.relay("a", { pollMs: HOUR_MS, clean: false });
  await relay.start();
  await world.pass(1_000);
  expect(calls.get("claim")).toBe(1);
  const stopped = relay.stop();
  await expect(relay.start()).rejects.toMatchObject({ code: "closed" });
  await world.finish(stopped);
  await world.finish(relay.stop());
});

import { expect, test } from "vitest";
import { MessagingError } from "../../../core/errors.ts";
import { newRow, numbered, RelayWorld, states } from "./relay-world.ts";

test("an unconfirmed row goes again under its id, before what is behind it", async () => {
  const world = new RelayWorld();
  let answers = false;
  world.judge = ({ id }) => (id === "k0" && !answers ? "after" : "none");
  world.insert(...numbered("k", 3).map((id) => newRow(id, { key: "k" })), newRow("x0", { key: "x" }));
  const process = await world.relay("a", { retry: { attempts: 1 } });
  await world.until(() => process.types().filter((type) => type === "postponed").length === 2);
  answers = true;
  await world.finish(process.relay.drain());
  expect(new Set(world.ids)).toEqual(new Set(["x0", "k0", "k1", "k2"]));
  expect(world.ids.slice(-3)).toEqual(["k0", "k1", "k2"]);
  expect(world.ids.filter((id) => id === "k1" || id === "k2")).toHaveLength(2);
  expect(await world.outbox.listQuarantined()).toEqual([]);
});

test.for(["down", "blocked"] as const)("while the broker is %s nothing is claimed and no attempt used", async (how) => {
  const world = new RelayWorld();
  const process = await world.relay("a", { retry: { attempts: 1 } });
  const { signals } = process.adapter;
  if (how === "down") signals?.down(new MessagingError("unreachable", "gone"));
  else signals?.blocked("memory");
  await world.pass(10_000);
  const { claims } = world.outbox;
  world.insert(...numbered("m", 50).map((id) => newRow(id)));
  await world.pass(600_000);
  expect(world.outbox.claims).toBe(claims);
  const { stall, outbox } = await world.finish(process.relay.status());
  expect(stall?.cause).toBe(`broker-${how}`);
  expect(stall?.ageMs).toBeGreaterThan(600_000);
  expect(outbox).toMatchObject({ unsent: 50 });
  expect(outbox?.oldestUnsentMs).toBeGreaterThanOrEqual(600_000);
  if (how === "down") signals?.up();
  else signals?.unblocked();
  await world.finish(process.relay.drain());
  expect(new Set(world.ids).size).toBe(50);
  expect(process.types()).toEqual(["stalled", "flowing"]);
});

test("what was on its way when the broker went is given back, and no attempt is used", async () => {
  const world = new RelayWorld();
  const process = await world.relay("a", { retry: { attempts: 1 }, clean: false });
  world.judge = () => "before";
  world.step = (_, step) => {
    if (step === "publish") process.adapter.signals?.down(new MessagingError("unreachable", "gone"));
  };
  world.insert(...numbered("k", 3).map((id) => newRow(id, { key: "k" })));
  await world.until(() => process.types().includes("postponed"));
  await world.pass(1_000);
  expect(world.outbox.rows.map(({ attempts, token }) => ({ attempts, token }))).toEqual(
    numbered("k", 3).map(() => ({ attempts: 0, token: undefined })),
  );
  world.judge = () => "none";
  world.step = () => {};
  process.adapter.signals?.up();
  await world.finish(process.relay.drain());
  expect(world.ids).toEqual(numbered("k", 3));
});

test("while the database is down it is asked less and less, and all goes on when it is back", async () => {
  const world = new RelayWorld();
  world.judgeCall = () => "before";
  world.insert(...numbered("m", 20).map((id) => newRow(id)));
  const process = await world.relay("a");
  await world.pass(60_000);
  const { stall, outbox } = await world.finish(process.relay.status());
  expect(stall).toMatchObject({ cause: "store-down", error: { code: "unreachable" } });
  expect(outbox).toBeUndefined();
  expect(process.events.filter((event) => event.type === "store-failed" && event.call === "claim").length).toBeLessThan(
    20,
  );
  world.judgeCall = () => "none";
  await world.finish(process.relay.drain());
  expect(new Set(world.ids).size).toBe(20);
  expect((await world.finish(process.relay.status())).stall).toBeUndefined();
});

test("a database that never answers is taken for down", async () => {
  const world = new RelayWorld();
  world.judgeCall = (call) => (call === "claim" ? "silent" : "none");
  world.insert(newRow("m"));
  const process = await world.relay("a", { storeTimeoutMs: 2_000, leaseMs: 6_000 });
  await world.until(() => process.types().includes("stalled"), 10_000);
  expect(process.events.find(({ type }) => type === "store-failed")).toMatchObject({ error: { code: "timeout" } });
  world.judgeCall = () => "none";
  await world.finish(process.relay.drain());
  expect(world.ids).toEqual(["m"]);
});

test("a claim whose answer comes too late is given back", async () => {
  const world = new RelayWorld();
  let slow = true;
  world.latencyMs = () => (slow ? 1_500 : 1);
  world.insert(newRow("m"));
  const process = await world.relay("a", { storeTimeoutMs: 2_000, leaseMs: 3_600_000 });
  await world.until(() => process.types().includes("store-failed"));
  slow = false;
  expect(await world.until(() => world.stored.length === 1, 60_000)).toBe(true);
});

test("leases are renewed for as long as the broker takes its time", async () => {
  const world = new RelayWorld();
  world.latencyMs = () => 1;
  const process = await world.relay("a", { leaseMs: 3_000, pollMs: 100 });
  process.adapter.holds = true;
  const handed: (() => void)[] = [];
  process.adapter.send = (_, batch, report) =>
    void handed.push(() => {
      for (const index of batch.keys()) report(index, { status: "confirmed" });
    });
  world.insert(newRow("k0", { key: "k" }), newRow("k1", { key: "k" }));
  const other = await world.relay("b", { leaseMs: 3_000, pollMs: 100 });
  // Whoever was first has it; the other would send it at once.
  await world.pass(25_000);
  expect(handed.length + world.stored.length).toBeGreaterThan(0);
  if (handed.length > 0) {
    expect(world.stored).toEqual([]);
    handed[0]?.();
  }
  await world.pass(1_000);
  for (const confirm of handed.slice(1)) confirm();
  await world.finish(other.relay.drain());
  expect(world.outbox.sent).toEqual([1, 2]);
});

test("what a dead relay held is taken over when its lease ends", async () => {
  const world = new RelayWorld();
  world.step = (process, step) => {
    if (process.name === "a" && step === "publish") process.kill();
  };
  world.insert(...numbered("k", 5).map((id) => newRow(id, { key: "k" })));
  await world.relay("a", { leaseMs: 5_000 });
  await world.pass(1_000);
  const { relay } = await world.relay("b", { leaseMs: 5_000 });
  await world.pass(1_000);
  expect(world.ids).toEqual([]);
  await world.finish(relay.drain());
  expect(world.ids).toEqual(numbered("k", 5));
});

test("one that cannot renew its lease begins nothing more, and says so", async () => {
  const world = new RelayWorld();
  const process = await world.relay("a", { leaseMs: 3_000, storeTimeoutMs: 500, clean: false });
  let confirm = (): void => {};
  process.adapter.send = (_, batch, report) => {
    confirm = () => {
      for (const index of batch.keys()) report(index, { status: "confirmed" });
    };
  };
  world.insert(...numbered("k", 3).map((id) => newRow(id, { key: "k" })));
  await world.pass(1_500);
  world.judgeCall = () => "before";
  await world.pass(5_000);
  expect(process.events.filter(({ type }) => type === "lost")).toEqual([{ type: "lost", count: 2 }]);
  const first = confirm;
  confirm();
  await world.pass(100);
  expect(confirm).toBe(first);
  world.judgeCall = () => "none";
  await world.pass(10_000);
  // What was confirmed is settled all the same, and the rest is claimed again.
  expect(states(world.outbox)[0]).toBe("sent");
  confirm();
  await world.pass(1_000);
  expect(states(world.outbox)[1]).toBe("sent");
});

test("a place that never answers does not keep the others waiting", async () => {
  const world = new RelayWorld();
  let tries = 0;
  world.judge = ({ body }) => (body.length === 4 && ++tries > 0 ? "before" : "none");
  const stuck = { to: { kind: "queue", name: "stuck" }, body: Buffer.from("null") } as const;
  world.insert(...numbered("s", 600).map((id) => newRow(id, stuck)), ...numbered("x", 100).map((id) => newRow(id)));
  const process = await world.relay("a", { batchSize: 50, retry: { attempts: 3 }, clean: false });
  // Those that were on their way until their deadline, and no others after them.
  expect(await world.until(() => world.stored.length === 100, 60_000)).toBe(true);
  // From then on it is tried with one row at a time.
  await world.pass(60_000);
  const before = tries;
  await world.pass(600_000);
  expect(tries - before).toBeGreaterThan(0);
  expect(process.types()).not.toContain("quarantined");
  world.judge = () => "none";
  await world.finish(process.relay.drain());
  expect(await world.until(() => states(world.outbox).every((state) => state === "sent"))).toBe(true);
  expect(new Set(world.ids).size).toBe(700);
});

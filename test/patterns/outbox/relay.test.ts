import { expect, test } from "vitest";
import { MessagingError } from "../../../core/errors.ts";
import { newRow, numbered, RelayWorld, states } from "./relay-world.ts";

test("what is inserted is sent as it is, once, and settled after the confirm", async () => {
  const world = new RelayWorld();
  const headers = Object.assign(Object.create(null), { traceparent: "00-1", "anybroker-published-at": "1" });
  const body = Buffer.from('{"n":1}');
  world.insert(newRow("m", { key: "k", headers, body, routingKey: "geo.us", priority: 3, contentType: "text/x" }));
  const { relay } = await world.relay("a", { clean: false });
  await world.finish(relay.drain());
  expect(world.messages).toMatchObject([
    { id: "m", key: "k", headers, body, routingKey: "geo.us", priority: 3, contentType: "text/x", delayMs: 0 },
  ]);
  expect(states(world.outbox)).toEqual(["sent"]);
  expect(await world.finish(relay.status())).toMatchObject({ state: "started", sent: 1, held: 0, bytes: 0 });
  await world.finish(relay.stop());
});

test("nothing is settled before the broker's confirm", async () => {
  const world = new RelayWorld();
  let confirmed = false;
  let early = false;
  world.step = (_, step) => {
    if (step === "confirm") confirmed = true;
    if (step === "mark" && !confirmed) early = true;
  };
  world.insert(newRow("m"));
  const { relay } = await world.relay("a");
  await world.finish(relay.drain());
  expect({ confirmed, early }).toEqual({ confirmed: true, early: false });
});

test("many rows go in batches, one claim after the other without a pause", async () => {
  const world = new RelayWorld();
  world.insert(...numbered("m", 1_000).map((id) => newRow(id)));
  const { relay } = await world.relay("a", { batchSize: 100, pollMs: 60_000 });
  expect(await world.until(() => world.stored.length === 1_000, 10_000)).toBe(true);
  await world.finish(relay.stop());
  expect(new Set(world.ids).size).toBe(1_000);
  expect(world.outbox.claims).toBeLessThan(20);
});

test("a row that is not due waits, for however long, and then goes", async () => {
  const world = new RelayWorld();
  const month = 30 * 24 * 60 * 60 * 1_000;
  world.insert(newRow("later", { delayMs: month }), newRow("now"));
  const { relay } = await world.relay("a", { pollMs: 3_600_000, clean: false });
  await world.finish(relay.drain());
  expect(world.ids).toEqual(["now"]);
  expect(await world.until(() => world.stored.length === 2, month + 7_200_000)).toBe(true);
  expect(world.stored[1]?.at).toBeGreaterThanOrEqual(month);
});

test("a wake-up from the store is not waited for", async () => {
  const world = new RelayWorld();
  const { relay } = await world.relay("a", { pollMs: 3_600_000 });
  await world.pass(100);
  world.insert(newRow("m"));
  expect(await world.until(() => world.stored.length === 1, 1_000)).toBe(true);
  await world.finish(relay.stop());
  expect(world.outbox.wakes).toEqual([]);
});

test("a time to live goes on in the outbox, and what is too old is sent to end in the dead letters", async () => {
  const world = new RelayWorld();
  const now = world.clock.now();
  world.insert(newRow("young", { expiresAt: now + 60_000 }), newRow("old", { expiresAt: now - 1 }));
  const { relay } = await world.relay("a");
  await world.finish(relay.drain());
  expect(world.messages.map(({ id, ttlMs }) => ({ id, old: ttlMs === 1 }))).toEqual([
    { id: "young", old: false },
    { id: "old", old: true },
  ]);
  expect(world.messages[0]?.ttlMs).toBeLessThanOrEqual(60_000);
});

test("a row that the broker refuses is tried again after its delay, and holds its key alone", async () => {
  const world = new RelayWorld();
  let refusals = 0;
  world.judge = ({ id }) => (id === "k0" && refusals++ < 3 ? "refused" : "none");
  world.insert(...numbered("k", 3).map((id) => newRow(id, { key: "k" })), newRow("x0", { key: "x" }));
  const process = await world.relay("a", { retry: { delay: { firstMs: 1_000, jitter: 0 } } });
  await world.until(() => world.stored.length === 4);
  expect(world.ids).toEqual(["x0", "k0", "k1", "k2"]);
  expect(world.stored[1]?.at).toBeGreaterThanOrEqual(7_000);
  expect(process.types().filter((type) => type === "failed")).toHaveLength(3);
});

test.for(["hold", "pass"] as const)("after its attempts a row is quarantined, and its key is to %s", async (choice) => {
  const world = new RelayWorld();
  let mended = false;
  world.judge = ({ id }) => (id === "k0" && !mended ? new MessagingError("too-large", "too large for it") : "none");
  world.insert(...numbered("k", 3).map((id) => newRow(id, { key: "k" })), newRow("x0", { key: "x" }));
  const process = await world.relay("a", { retry: { attempts: 3 }, onQuarantine: choice });
  await world.until(() => process.types().includes("quarantined"));
  await world.finish(process.relay.drain());
  expect(world.ids).toEqual(choice === "hold" ? ["x0"] : ["x0", "k1", "k2"]);
  expect(await world.outbox.listQuarantined()).toMatchObject([
    { id: "k0", attempts: 3, error: { code: "too-large", message: "too large for it" }, holdsKey: choice === "hold" },
  ]);
  const { outbox, quarantined } = await world.finish(process.relay.status());
  expect(quarantined).toBe(1);
  expect(outbox?.quarantined).toBe(1);
  // It is left alone from then on.
  const tries = process.types().length;
  await world.pass(600_000);
  expect(process.types()).toHaveLength(tries);
  mended = true;
  await world.outbox.retryQuarantined([1]);
  await world.finish(process.relay.drain());
  expect(world.ids).toEqual(choice === "hold" ? ["x0", "k0", "k1", "k2"] : ["x0", "k1", "k2", "k0"]);
});

test("what a broker says of a row is kept as any store can keep it", async () => {
  const world = new RelayWorld();
  world.judge = () => new MessagingError("refused", "odd: \0 and \ud800");
  world.insert(newRow("m"));
  const process = await world.relay("a", { retry: { attempts: 1 }, clean: false });
  await world.until(() => process.types().includes("quarantined"));
  await world.finish(process.relay.drain());
  expect(await world.outbox.listQuarantined()).toMatchObject([{ error: { message: "odd:   and \ufffd" } }]);
});

test("a topic that lets events without a subscription go counts them as sent", async () => {
  const world = new RelayWorld();
  world.judge = () => new MessagingError("unroutable", "nobody");
  world.insert(newRow("m", { discardUnroutable: true }), newRow("n"));
  const process = await world.relay("a", { retry: { attempts: 1 }, clean: false });
  await world.until(() => process.types().includes("quarantined"));
  await world.finish(process.relay.drain());
  expect(states(world.outbox)).toEqual(["sent", "quarantined"]);
});

test("stop waits for what is on its way, gives back the rest, and leaves nothing behind", async () => {
  const world = new RelayWorld();
  world.latencyMs = () => 50;
  world.insert(...numbered("k", 20).map((id) => newRow(id, { key: "k" })), newRow("x"));
  const process = await world.relay("a", { clean: false });
  await world.until(() => world.stored.length > 0);
  await world.finish(Promise.all([process.relay.stop(), process.relay.stop()]));
  const sent = states(world.outbox).filter((state) => state === "sent").length;
  expect(sent).toBe(world.stored.length);
  expect(sent).toBeLessThan(21);
  expect(world.outbox.rows.every(({ token }) => token === undefined)).toBe(true);
  // What is left is the broker object's.
  await world.finish(process.broker.stop());
  expect(process.clock.pending).toBe(0);
  await world.finish(process.broker.start());
  expect(await process.relay.status()).toMatchObject({ state: "stopped", held: 0 });
  await process.relay.start();
  await world.finish(process.relay.drain());
  expect(world.ids.filter((id) => id.startsWith("k"))).toEqual(numbered("k", 20));
});

test("a stop past its time gives back what the broker did not confirm", async () => {
  const world = new RelayWorld();
  const process = await world.relay("a");
  process.adapter.send = () => {};
  world.insert(newRow("m"));
  await world.pass(2_000);
  await world.finish(process.relay.stop({ timeoutMs: 1_000 }));
  expect(world.outbox.rows.map(({ token, state }) => ({ token, state }))).toEqual([
    { token: undefined, state: "unsent" },
  ]);
});

test("a hot key does not keep the others waiting", async () => {
  const world = new RelayWorld();
  world.latencyMs = () => 10;
  world.insert(
    ...numbered("hot", 300).map((id) => newRow(id, { key: "hot" })),
    ...numbered("x", 100).map((id) => newRow(id)),
  );
  const { relay } = await world.relay("a", { batchSize: 100 });
  await world.until(() => world.ids.filter((id) => id.startsWith("x")).length === 100);
  expect(world.ids.filter((id) => id.startsWith("hot")).length).toBeLessThan(100);
  await world.finish(relay.drain());
  expect(world.ids.filter((id) => id.startsWith("hot"))).toEqual(numbered("hot", 300));
});

test("what is held is bounded, in rows and in bytes", async () => {
  const world = new RelayWorld();
  const body = Buffer.alloc(1_000);
  world.insert(...numbered("m", 2_000).map((id) => newRow(id, { body })));
  const process = await world.relay("a", { batchSize: 20, maxBytes: 30_000 });
  let most = { held: 0, bytes: 0 };
  world.step = () => {
    void process.relay.status().then(({ held, bytes }) => {
      most = { held: Math.max(most.held, held), bytes: Math.max(most.bytes, bytes) };
    });
  };
  await world.finish(process.relay.drain());
  expect(world.ids).toHaveLength(2_000);
  expect(most.held).toBeLessThanOrEqual(80);
  expect(most.bytes).toBeGreaterThan(0);
  expect(most.bytes).toBeLessThanOrEqual(31_000);
});

test("sent rows are removed in bounded batches", async () => {
  const world = new RelayWorld();
  world.insert(...numbered("m", 100).map((id) => newRow(id)));
  let cleanings = 0;
  world.judgeCall = (call) => {
    if (call === "clean") cleanings++;
    return "none";
  };
  await world.relay("a", { clean: { everyMs: 60_000, limit: 30 } });
  expect(await world.until(() => world.outbox.rows.length === 0, 120_000)).toBe(true);
  expect(cleanings).toBeGreaterThanOrEqual(4);
});

test("draining waits for rows that others hold, ends by its signal, and is refused without a start", async () => {
  const world = new RelayWorld();
  const dead = await world.relay("a", { leaseMs: 20_000 });
  world.insert(newRow("m"));
  world.step = (process, step) => {
    if (process === dead && step === "publish") dead.kill();
  };
  await world.until(() => dead.dead);
  const { relay } = await world.relay("b");
  const controller = new AbortController();
  const given = relay.drain({ signal: controller.signal });
  given.catch(() => {});
  controller.abort(new Error("enough"));
  await expect(given).rejects.toThrow("enough");
  await world.finish(relay.drain());
  expect(world.ids).toEqual(["m"]);
  await world.finish(relay.stop());
  await expect(relay.drain()).rejects.toMatchObject({ code: "closed" });
});

test("an empty outbox is drained, also while the broker is away", async () => {
  const world = new RelayWorld();
  const process = await world.relay("a");
  process.adapter.signals?.down(new MessagingError("unreachable", "gone"));
  await world.finish(process.relay.drain());
});

test("what an observer throws is ignored", async () => {
  const world = new RelayWorld();
  world.judge = () => "refused";
  world.insert(newRow("m"));
  const onEvent = (): void => {
    throw new Error("broken observer");
  };
  await world.relay("a", { retry: { attempts: 2 }, onEvent });
  expect(await world.until(() => world.outbox.rows[0]?.state === "quarantined")).toBe(true);
});

import assert from "node:assert/strict";
import type { OutboxStore } from "../../../patterns/outbox/store.ts";
import { present, type StoreCase, type StoreContext } from "../../stores/suite.ts";
import type { OpenOutbox, OutboxHarness } from "../harness.ts";
import { committed, drain, keyed, Outboxes, positionOf, row, sentAll, take } from "../outbox-place.ts";

export const keeping: readonly StoreCase<OutboxHarness>[] = [
  {
    number: "O14",
    title: "a failed row waits until its retry with a counted attempt, and holds an ordered key",
    run: fails,
  },
  { number: "O15", title: "a quarantined row is listed, holds its key, and is first when it is retried", run: holds },
  { number: "O16", title: "a quarantined row that does not hold its key is last when it is retried", run: passes },
  { number: "O17", title: "a discarded quarantined row is gone, and its key continues", run: discards },
  {
    number: "O18",
    title: "a delayed row is claimed when it is due, never before, and blocks no other row",
    run: delays,
  },
  {
    number: "O19",
    title: "cleaning removes only sent rows past `keepSentMs`, at most `limit`",
    run: cleans,
  },
  { number: "O20", title: "health reports unsent rows, their age and what holds them", run: reportsHealth },
];

const ERROR = { code: "refused", message: "the broker refuses it" };
const SHORT_MS = 400;

async function fails(context: StoreContext<OutboxHarness>): Promise<void> {
  const { store, ...outbox } = await (await Outboxes.make(context)).open();
  const rows = [keyed("a1", "a"), keyed("a2", "a"), row("b1", { key: "b" }), row("b2", { key: "b" }), keyed("c1", "c")];
  await committed({ store, ...outbox }, rows);
  const first = await take(store);
  const fail = (id: string) =>
    ({ position: positionOf(first, id), outcome: "failed", error: ERROR, retryInMs: SHORT_MS }) as const;
  const free = (id: string) => ({ position: positionOf(first, id), outcome: "released" }) as const;
  const begin = performance.now();
  const settlements = [fail("a1"), free("a2"), fail("b1"), free("b2"), free("c1")];
  assert.deepEqual(await store.settle(first.token, settlements), []);
  const meanwhile = await take(store);
  // On a slow machine the retry may be due by now.
  if (performance.now() - begin < SHORT_MS) {
    assert.deepEqual(meanwhile.ids, ["b2", "c1"], "a failed row did not wait, or held the wrong rows");
  }
  await sentAll(store, meanwhile);
  const came: { id: string; attempts: number }[] = [];
  await context.until("the failed rows to be claimed again", async () => {
    const claim = await take(store);
    came.push(...claim.rows.map(({ id, attempts }) => ({ id, attempts })));
    await sentAll(store, claim);
    return came.length >= rows.length - meanwhile.rows.length;
  });
  const waitedMs = performance.now() - begin;
  assert.ok(waitedMs >= SHORT_MS - 5, `a failed row was claimed again after ${waitedMs} of ${SHORT_MS} ms`);
  assert.deepEqual(
    came.filter(({ id }) => id.startsWith("a")),
    [
      { id: "a1", attempts: 1 },
      { id: "a2", attempts: 0 },
    ],
  );
  const failed = came.find(({ id }) => id === "b1") ?? meanwhile.rows.find(({ id }) => id === "b1");
  assert.equal(failed?.attempts, 1);
}

/** An outbox whose row `a1`, followed by `a2` of its key, is quarantined. */
async function quarantined(context: StoreContext<OutboxHarness>, holdsKey: boolean) {
  const outbox = await (await Outboxes.make(context)).open();
  const { store } = outbox;
  await committed(outbox, [keyed("a1", "a"), keyed("a2", "a"), row("b1")]);
  const claim = await take(store);
  const [a1, a2, b1] = ["a1", "a2", "b1"].map((id) => positionOf(claim, id)) as [number, number, number];
  const settlements = [
    { position: a1, outcome: "quarantined", error: ERROR, holdsKey },
    { position: a2, outcome: "released" },
    { position: b1, outcome: "released" },
  ] as const;
  assert.deepEqual(await store.settle(claim.token, settlements), []);
  return { outbox, store, a1, a2 };
}

async function holds(context: StoreContext<OutboxHarness>): Promise<void> {
  const { store, a1, a2 } = await quarantined(context, true);
  assert.deepEqual(await drain(store), ["b1"], "rows passed a quarantined one that holds their key");
  const [listed] = await store.listQuarantined({ limit: 1 });
  const { quarantinedAt, position, id, attempts, error, holdsKey } = present("the quarantined row", listed);
  assert.deepEqual(
    { position, id, attempts, error, holdsKey },
    { position: a1, id: "a1", attempts: 1, error: ERROR, holdsKey: true },
  );
  assert.ok(Math.abs(Date.now() - quarantinedAt) < 24 * 60 * 60 * 1_000, `quarantined at ${quarantinedAt}`);
  assert.deepEqual(await store.listQuarantined({ limit: 1, after: a1 }), []);
  assert.deepEqual(await store.retryQuarantined([a2, a1]), [a1], "a row that was not quarantined was retried");
  assert.deepEqual(await store.retryQuarantined([a1]), []);
  const claim = await take(store);
  assert.deepEqual(
    claim.rows.map((one) => [one.id, one.attempts]),
    [
      ["a1", 0],
      ["a2", 0],
    ],
  );
}

async function passes(context: StoreContext<OutboxHarness>): Promise<void> {
  const { outbox, store, a1 } = await quarantined(context, false);
  assert.deepEqual([...(await drain(store))].sort(), ["a2", "b1"], "a later row of the key was not claimed");
  await committed(outbox, [keyed("a3", "a")]);
  assert.deepEqual(
    (await store.listQuarantined({ limit: 10 })).map(({ id, holdsKey }) => [id, holdsKey]),
    [["a1", false]],
  );
  assert.deepEqual(await store.retryQuarantined([a1]), [a1]);
  const claim = await take(store);
  assert.deepEqual(
    claim.rows.map((one) => [one.id, one.attempts]),
    [
      ["a3", 0],
      ["a1", 0],
    ],
  );
  assert.deepEqual(await store.listQuarantined({ limit: 10 }), []);
}

async function discards(context: StoreContext<OutboxHarness>): Promise<void> {
  const { store, a1, a2 } = await quarantined(context, true);
  assert.deepEqual(await store.discardQuarantined([a2, a1]), [a1], "a row that was not quarantined was discarded");
  assert.deepEqual(await store.discardQuarantined([a1]), []);
  assert.deepEqual([...(await drain(store))].sort(), ["a2", "b1"]);
  assert.deepEqual(await store.listQuarantined({ limit: 10 }), []);
}

async function delays(context: StoreContext<OutboxHarness>): Promise<void> {
  const outbox = await (await Outboxes.make(context)).open();
  const { store } = outbox;
  const begin = performance.now();
  await committed(outbox, [
    row("later", { delayMs: SHORT_MS, key: "k" }),
    row("in a century", { delayMs: 100 * 365 * 24 * 60 * 60 * 1_000, key: "k" }),
    row("now", { key: "k" }),
  ]);
  const first = await drain(store);
  if (performance.now() - begin < SHORT_MS) assert.deepEqual(first, ["now"]);
  const came = [...first];
  await context.until("a row to be due", async () => {
    came.push(...(await drain(store)));
    return came.includes("later");
  });
  const waitedMs = performance.now() - begin;
  assert.ok(waitedMs >= SHORT_MS - 5, `a row with a delay of ${SHORT_MS} ms was claimed after ${waitedMs}`);
  assert.deepEqual(came.sort(), ["later", "now"]);
}

const KEPT = 12;

async function cleans(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const outbox = await outboxes.open(1);
  const { store } = outbox;
  await committed(outbox, [row("quarantined"), ...Array.from({ length: KEPT }, (_, n) => row(`sent-${n}`))]);
  const claim = await take(store);
  const settlements = claim.rows.map(({ id, position }) =>
    id === "quarantined"
      ? ({ position, outcome: "quarantined", error: ERROR, holdsKey: false } as const)
      : ({ position, outcome: "sent" } as const),
  );
  assert.deepEqual(await store.settle(claim.token, settlements), []);
  await committed(outbox, [row("claimed"), row("free")]);
  const held = await take(store, { limit: 1 });
  const removed: number[] = [];
  await context.until("sent rows to be removed", async () => {
    const count = await store.clean(5);
    assert.ok(count <= 5, `cleaning at most 5 removed ${count}`);
    removed.push(count);
    return removed.reduce((sum, one) => sum + one, 0) >= KEPT;
  });
  assert.equal(await store.clean(1_000), 0, "cleaning removed more than the sent rows");
  assert.equal((await store.listQuarantined({ limit: 10 })).length, 1, "cleaning removed a quarantined row");
  const rest = await drain(store);
  await sentAll(store, held);
  assert.deepEqual([...held.ids, ...rest].sort(), ["claimed", "free"], "cleaning removed a row that was not sent");
  const keeping = await outboxes.open(600_000);
  await committed(keeping, [row("kept")]);
  assert.deepEqual(await drain(keeping.store), ["kept"]);
  assert.ok((await keeping.store.clean(1_000)) <= 2, "cleaning removed a row before keepSentMs");
}

async function reportsHealth(context: StoreContext<OutboxHarness>): Promise<void> {
  const { outbox, store, a1 } = await quarantined(context, true);
  const before = await store.health();
  assert.deepEqual([before.unsent, before.quarantined], [2, 1]);
  await context.until(
    "the oldest row to grow older",
    async () => (await store.health()).oldestUnsentMs > before.oldestUnsentMs,
  );
  await drain(store);
  const held = await store.health();
  assert.deepEqual([held.unsent, held.quarantined], [1, 1]);
  assert.ok(
    held.stalls.some(({ cause }) => cause === "held-key"),
    "a held key is not reported as a stall",
  );
  assert.deepEqual(await store.discardQuarantined([a1]), [a1]);
  await drain(store);
  const empty = await store.health();
  assert.deepEqual([empty.unsent, empty.quarantined, empty.oldestUnsentMs], [0, 0, 0]);
  await ignoresDelayedRows(outbox, store);
}

async function ignoresDelayedRows(outbox: OpenOutbox<unknown>, store: OutboxStore<unknown>): Promise<void> {
  await committed(outbox, [row("later", { delayMs: 600_000 })]);
  const { unsent, oldestUnsentMs } = await store.health();
  assert.deepEqual([unsent, oldestUnsentMs], [1, 0], "a row that is not due counts as waiting");
}

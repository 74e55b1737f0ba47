import assert from "node:assert/strict";
import type { OutboxSettlement, OutboxStore } from "../../../patterns/outbox/store.ts";
import { LONG_MS, type StoreCase, type StoreContext } from "../../stores/suite.ts";
import type { OutboxHarness } from "../harness.ts";
import { committed, drain, keyed, Outboxes, positionOf, row, sentAll, take } from "../outbox-place.ts";

export const leasing: readonly StoreCase<OutboxHarness>[] = [
  { number: "O10", title: "others take rows over after their lease, never before", run: takesOver },
  { number: "O11", title: "a renewed claim lasts; one that was taken over is lost", run: renews },
  { number: "O12", title: "late settlements change nothing, except that a row was sent", run: fences },
  {
    number: "O13",
    title: "a second settlement, or one with another token, does nothing; rows can be settled separately",
    run: settlesOnce,
  },
];

const LEASE_MS = 400;
const ERROR = { code: "refused", message: "the broker refuses it" };

/** Waits until the rows of a short lease can be claimed. */
async function takenOver(context: StoreContext<OutboxHarness>, store: OutboxStore<unknown>) {
  let claim = await take(store);
  await context.until("a lease to end", async () => {
    if (claim.rows.length === 0) claim = await take(store);
    return claim.rows.length > 0;
  });
  return claim;
}

async function takesOver(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  await committed(outbox, [keyed("a1", "a"), keyed("a2", "a"), row("free")]);
  const begin = performance.now();
  const first = await take(outbox.store, { leaseMs: LEASE_MS });
  assert.deepEqual(first.ids, ["a1", "a2", "free"]);
  const second = await takenOver(context, other);
  const heldMs = performance.now() - begin;
  assert.ok(heldMs >= LEASE_MS - 5, `a lease of ${LEASE_MS} ms ended after ${heldMs}`);
  assert.deepEqual(second.ids, ["a1", "a2", "free"], "not all rows were taken over");
  assert.notEqual(second.token, first.token);
  assert.deepEqual((await take(outbox.store)).ids, []);
}

async function renews(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  await committed(outbox, [keyed("a1", "a"), row("free")]);
  const first = await take(outbox.store);
  assert.equal(await outbox.store.renew(first.token, LEASE_MS), "renewed");
  const begin = performance.now();
  const second = await takenOver(context, other);
  assert.ok(performance.now() - begin < LONG_MS / 2, "the lease was not shortened");
  assert.deepEqual([...second.ids].sort(), ["a1", "free"]);
  assert.equal(await outbox.store.renew(first.token, LONG_MS), "lost", "a claim that was taken over was renewed");
  assert.equal(await other.renew(second.token, LONG_MS), "renewed");
  assert.equal(
    await other.renew("11111111-1111-4111-8111-111111111111", LONG_MS),
    "lost",
    "an unknown claim was renewed",
  );
  await committed(outbox, [row("renewed"), row("left alone")]);
  const third = await take(outbox.store, { limit: 1, leaseMs: LEASE_MS });
  assert.deepEqual((await take(outbox.store, { limit: 1, leaseMs: LEASE_MS })).ids, ["left alone"]);
  assert.equal(await outbox.store.renew(third.token, LONG_MS), "renewed");
  assert.deepEqual((await takenOver(context, other)).ids, ["left alone"], "a renewed claim was taken over");
}

async function fences(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  const ids = ["failed", "released", "quarantined", "sent"];
  await committed(
    outbox,
    ids.map((id) => keyed(id, id)),
  );
  const first = await take(outbox.store, { leaseMs: LEASE_MS });
  assert.deepEqual(first.ids, ids);
  const second = await takenOver(context, other);
  assert.deepEqual(second.ids, ids);
  const late: OutboxSettlement[] = [
    { position: positionOf(first, "failed"), outcome: "failed", error: ERROR, retryInMs: 0 },
    { position: positionOf(first, "released"), outcome: "released" },
    { position: positionOf(first, "quarantined"), outcome: "quarantined", error: ERROR, holdsKey: true },
  ];
  const unchanged = await outbox.store.settle(first.token, late);
  assert.deepEqual(
    [...unchanged].sort(),
    late.map(({ position }) => position).sort(),
    "a late settlement was accepted",
  );
  assert.deepEqual((await take(outbox.store)).ids, [], "a late settlement freed a row of another claim");
  assert.deepEqual(
    await outbox.store.listQuarantined({ limit: 10 }),
    [],
    "a late settlement quarantined a row of another claim",
  );
  const sent = { position: positionOf(first, "sent"), outcome: "sent" } as const;
  assert.deepEqual(await outbox.store.settle(first.token, [sent]), [], "a late settlement as sent was not accepted");
  const freed = second.rows.map(({ position }) => ({ position, outcome: "released" as const }));
  assert.deepEqual(await other.settle(second.token, freed), [sent.position]);
  const last = await take(other);
  assert.deepEqual(last.ids, ["failed", "released", "quarantined"]);
  assert.deepEqual(
    last.rows.map(({ attempts }) => attempts),
    [0, 0, 0],
    "a late settlement counted as an attempt",
  );
}

async function settlesOnce(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  await committed(
    outbox,
    ["f", "q", "s", "r"].map((id) => keyed(id, id)),
  );
  const claim = await take(outbox.store, { limit: 3 });
  const theirs = await take(other);
  assert.deepEqual(theirs.ids, ["r"]);
  const [f, q, s] = ["f", "q", "s"].map((id) => positionOf(claim, id)) as [number, number, number];
  const failed = { position: f, outcome: "failed", error: ERROR, retryInMs: 0 } as const;
  assert.deepEqual(await other.settle(theirs.token, [failed]), [f], "a row was settled with another claim's token");
  assert.deepEqual(await outbox.store.settle(claim.token, [failed]), []);
  assert.deepEqual(await outbox.store.settle(claim.token, [failed]), [f], "a failure was counted twice");
  const held = { position: q, outcome: "quarantined", error: ERROR, holdsKey: true } as const;
  assert.deepEqual(await outbox.store.settle(claim.token, [held, { position: s, outcome: "sent" }]), []);
  await outbox.store.settle(claim.token, [held, { position: s, outcome: "sent" }]);
  const [quarantined, ...none] = await outbox.store.listQuarantined({ limit: 10 });
  assert.equal(none.length, 0);
  assert.equal(quarantined?.attempts, 1, "a quarantine was counted twice");
  await sentAll(other, theirs);
  const again = await take(other);
  assert.deepEqual(again.ids, ["f"]);
  assert.equal(again.rows[0]?.attempts, 1);
  await sentAll(other, again);
  assert.deepEqual(await drain(other), []);
}

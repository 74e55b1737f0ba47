import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import type { OutboxClaim, OutboxStore } from "../../../patterns/outbox/store.ts";
import type { StoreCase, StoreContext } from "../../stores/suite.ts";
import type { OutboxHarness } from "../harness.ts";
import { committed, drain, keyed, Outboxes, positionOf, row, sentAll, take } from "../outbox-place.ts";

export const claiming: readonly StoreCase<OutboxHarness>[] = [
  { number: "O5", title: "a claimed row is in no other claim; no claim exceeds its limit", run: claimsOnce },
  { number: "O6", title: "no two claims have rows of one key", run: holdsKeys },
  { number: "O7", title: "keys differ by kind, destination and exact text", run: keepsKeysApart },
  { number: "O8", title: "with several relays each row is sent once, and each key in order", run: keepsOrder },
  {
    number: "O9",
    title: "a released row can be claimed at once, in its old place, without an attempt",
    run: releases,
  },
];

async function claimsOnce(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  assert.equal(
    await outbox.store.claim({ relay: "r", limit: 1, leaseMs: 1_000 }),
    undefined,
    "an empty outbox gave a claim",
  );
  const ids = Array.from({ length: 20 }, (_, n) => `row-${String(n).padStart(2, "0")}`);
  await committed(
    outbox,
    ids.map((id) => row(id)),
  );
  const came: string[] = [];
  const claims = await Promise.all([1, 2, 3, 4].map((n) => take(n % 2 === 0 ? other : outbox.store, { limit: 5 })));
  for (const claim of claims) {
    assert.ok(claim.rows.length <= 5, `a claim of at most 5 has ${claim.rows.length} rows`);
    came.push(...claim.ids);
  }
  for (;;) {
    const { ids: more } = await take(other, { limit: 5 });
    if (more.length === 0) break;
    came.push(...more);
  }
  assert.deepEqual(came.sort(), ids, "rows were claimed twice or never");
  const tokens = claims.map(({ token }) => token).filter((token) => token !== "");
  assert.equal(new Set(tokens).size, tokens.length, "two claims have the same token");
}

/** So many that a store which locks several keys together leaves some free. */
const OTHERS = 64;

async function holdsKeys(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  const others = Array.from({ length: OTHERS }, (_, n) => `other-${n}`);
  const rows = [keyed("a1", "a"), row("a2", { key: "a" }), keyed("a3", "a"), ...others.map((key) => keyed(key, key))];
  await committed(outbox, rows);
  const first = await take(outbox.store, { limit: 1 });
  assert.deepEqual(first.ids, ["a1"]);
  const came = [...(await drain(other)), ...(await drain(outbox.store))];
  assert.deepEqual(
    came.filter((id) => id.startsWith("a")),
    [],
    "rows of a key were claimed that another claim holds",
  );
  assert.ok(came.length > 0, "no other key could be claimed");
  await sentAll(outbox.store, first);
  came.push(...(await drain(other)));
  assert.deepEqual(
    came.filter((id) => id.startsWith("a")),
    ["a2", "a3"],
  );
  assert.deepEqual(came.filter((id) => !id.startsWith("a")).sort(), others.sort());
}

async function keepsKeysApart(context: StoreContext<OutboxHarness>): Promise<void> {
  const outbox = await (await Outboxes.make(context)).open();
  const places = [
    ["queue", "orders", "a"],
    ["queue", "orders2", "a"],
    ["topic", "orders", "a"],
    ["queue", "orders", "A"],
    ["queue", "orders", "a "],
    ["queue", "orders", "é"],
    ["queue", "orders", ""],
  ] as const;
  const rows = places.map(([kind, name, key], n) => row(`r${n}`, { to: { kind, name }, key, ordered: true }));
  await committed(outbox, rows);
  const claim = await take(outbox.store);
  const failed = { outcome: "failed", error: { code: "refused", message: "no" }, retryInMs: 600_000 } as const;
  assert.deepEqual(await outbox.store.settle(claim.token, [{ position: positionOf(claim, "r0"), ...failed }]), []);
  await sentAll(outbox.store, { token: claim.token, rows: claim.rows.slice(1) });
  await committed(
    outbox,
    rows.map((one, n) => ({ ...one, id: `s${n}` })),
  );
  assert.deepEqual(await drain(outbox.store), ["s1", "s2", "s3", "s4", "s5", "s6"]);
}

const RELAYS = 4;
const KEYS = 5;
const ROWS = 200;

async function keepsOrder(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const outbox = await outboxes.open();
  const stores = await Promise.all(Array.from({ length: RELAYS }, () => outboxes.store()));
  const sent = new Map<string, number[]>();
  const inside = new Set<string>();
  let count = 0;
  const work = async (store: OutboxStore<unknown>): Promise<void> => {
    while (count < ROWS) {
      const claim = await take(store, { limit: 1 + Math.floor(context.random() * 6) });
      const keys = new Set(claim.rows.map(({ key }) => key ?? ""));
      for (const key of keys) {
        assert.ok(!inside.has(key), "two claims hold one key");
        inside.add(key);
      }
      await turn();
      const kept = sendSome(context, claim, sent);
      count += kept.length;
      for (const key of keys) inside.delete(key);
      await settleSome(store, claim, kept);
    }
  };
  const writing = (async () => {
    for (let n = 0; n < ROWS; n += 4) {
      await committed(
        outbox,
        [0, 1, 2, 3].map((more) => keyed(`${n + more}`, `k${(n + more) % KEYS}`)),
      );
    }
  })();
  await context.inTime("all rows to be sent", Promise.all([writing, ...stores.map(work)]));
  for (const [key, numbers] of sent) {
    assert.deepEqual(
      numbers,
      [...numbers].sort((one, other) => one - other),
      `${key} was sent in another order`,
    );
    assert.equal(new Set(numbers).size, numbers.length, `a row of ${key} was sent twice`);
  }
  assert.equal([...sent.values()].flat().length, ROWS);
}

/** Sends the rows of a claim, of some keys only the first ones. Returns the positions of the sent rows. */
function sendSome(context: StoreContext<OutboxHarness>, claim: OutboxClaim, sent: Map<string, number[]>): number[] {
  const stopped = new Set<string>();
  const positions: number[] = [];
  for (const { key = "", id, position } of claim.rows) {
    if (context.random() < 0.2) stopped.add(key);
    if (stopped.has(key)) continue;
    sent.set(key, [...(sent.get(key) ?? []), Number(id)]);
    positions.push(position);
  }
  return positions;
}

async function settleSome(store: OutboxStore<unknown>, claim: OutboxClaim, kept: readonly number[]): Promise<void> {
  if (claim.rows.length === 0) return;
  const settlements = claim.rows.map(({ position }) => ({
    position,
    outcome: kept.includes(position) ? ("sent" as const) : ("released" as const),
  }));
  assert.deepEqual(await store.settle(claim.token, settlements), []);
}

async function releases(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.store()];
  await committed(outbox, [keyed("a1", "a"), keyed("a2", "a"), row("free")]);
  const claim = await take(outbox.store);
  const released = claim.rows.map(({ position }) => ({ position, outcome: "released" as const }));
  assert.deepEqual(await outbox.store.settle(claim.token, released), []);
  const again = await take(other);
  assert.deepEqual(again.ids, ["a1", "a2", "free"]);
  assert.deepEqual(
    again.rows.map(({ attempts }) => attempts),
    [0, 0, 0],
    "a release counted as an attempt",
  );
}

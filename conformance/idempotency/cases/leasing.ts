import assert from "node:assert/strict";
import type { IdempotencyStore } from "../../../patterns/idempotency/index.ts";
import { LONG_MS } from "../../stores/suite.ts";
import type { StoreCase } from "../case.ts";
import { withClockOff } from "../clock-off.ts";
import { claimed, openStore, type StoreContext } from "../context.ts";

export const leasing: readonly StoreCase[] = [
  { number: "I6", title: "a lease that is not renewed ends, never early, and the next claim gets the key", run: ends },
  { number: "I7", title: "a renewed lease lasts", run: isRenewed },
  { number: "I8", title: "a lost claim cannot be renewed, completed or released", run: fences },
  { number: "I9", title: "leases follow the store's clock: a worker's wrong clock changes nothing", run: ownClock },
];

const SHORT_MS = 300;
/** Databases round to milliseconds. */
const ROUNDING_MS = 2;

/** Waits until the key can be claimed. Resolves with the new token. */
async function taken(context: StoreContext, store: IdempotencyStore, key: string): Promise<string> {
  let token = "";
  await context.until("a claim to end", async () => {
    const result = await store.claim(key, LONG_MS);
    assert.notEqual(result.status, "done", "a key without a completion is done");
    if (result.status === "claimed") token = result.token;
    else if (result.status === "busy") assert.ok(result.remainingMs >= 0, "the remaining time of a claim is negative");
    return token !== "";
  });
  return token;
}

async function ends(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  const key = context.name();
  const begin = performance.now();
  await claimed(store, key, SHORT_MS);
  await taken(context, other, key);
  const heldMs = performance.now() - begin;
  assert.ok(heldMs >= SHORT_MS - ROUNDING_MS, `a lease of ${SHORT_MS} ms ended after ${heldMs}`);
}

async function isRenewed(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  // If the machine paused for longer than the lease, try a longer one.
  for (let leaseMs = SHORT_MS; ; leaseMs *= 2) {
    const [key, control] = [context.name(), context.name()];
    const begin = performance.now();
    const token = await claimed(store, key, leaseMs);
    if ((await store.renew(key, token, LONG_MS)) === "lost") {
      const lostMs = performance.now() - begin;
      assert.ok(lostMs >= leaseMs - ROUNDING_MS, `a lease of ${leaseMs} ms was lost after ${lostMs}`);
      continue;
    }
    await claimed(store, control, leaseMs);
    await taken(context, other, control);
    assert.equal((await other.claim(key, LONG_MS)).status, "busy", "a renewed claim ended");
    assert.equal(await store.complete(key, token, LONG_MS), "completed");
    return;
  }
}

async function fences(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  const key = context.name();
  const old = await claimed(store, key, SHORT_MS);
  const token = await taken(context, other, key);
  assert.notEqual(token, old, "two claims have the same token");
  const late = async (when: string): Promise<void> => {
    assert.equal(await store.renew(key, old, LONG_MS), "lost", `renewed ${when}`);
    assert.equal(await store.release(key, old), "lost", `released ${when}`);
    assert.equal(await store.complete(key, old, LONG_MS), "lost", `completed ${when}`);
  };
  await late("while another holds it");
  assert.equal((await store.claim(key, LONG_MS)).status, "busy", "the new claim is gone");
  assert.equal(await other.renew(key, token, LONG_MS), "renewed");
  assert.equal(await other.release(key, token), "released");
  await late("after another released it");
  const third = await claimed(other, key);
  assert.equal(await other.complete(key, third, LONG_MS), "completed");
  await late("after another completed it");
  assert.equal((await store.claim(key, LONG_MS)).status, "done");
  const made = context.name();
  assert.equal(await store.complete(made, old, LONG_MS), "lost", "completed an unclaimed key");
  assert.equal(await store.renew(made, old, LONG_MS), "lost", "renewed an unclaimed key");
  await claimed(store, made);
}

const DAY_MS = 24 * 60 * 60 * 1_000;

async function ownClock(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  for (const offMs of [DAY_MS, -DAY_MS]) {
    const how = offMs > 0 ? "a day ahead" : "a day behind";
    const key = context.name();
    await claimed(store, key);
    await withClockOff(offMs, async () => {
      assert.equal((await other.claim(key, LONG_MS)).status, "busy", `a claim ended for a worker ${how}`);
    });
    const [theirs, renewed, short, done] = [context.name(), context.name(), context.name(), context.name()];
    const token = await claimed(store, renewed);
    await withClockOff(offMs, async () => {
      await claimed(other, theirs);
      await claimed(other, short, SHORT_MS);
      assert.equal(await other.renew(renewed, token, LONG_MS), "renewed");
      await other.complete(done, await claimed(other, done), LONG_MS);
    });
    assert.equal((await store.claim(theirs, LONG_MS)).status, "busy", `the claim of a worker ${how} ended`);
    assert.equal((await store.claim(renewed, LONG_MS)).status, "busy", `the renewal by a worker ${how} ended`);
    assert.equal((await store.claim(done, LONG_MS)).status, "done", `a completion by a worker ${how} is not done`);
    await taken(context, store, short);
  }
}

import assert from "node:assert/strict";
import type { IdempotencyStore } from "../../../patterns/idempotency/index.ts";
import { LONG_MS } from "../../stores/suite.ts";
import type { StoreCase } from "../case.ts";
import { claimed, openStore, type StoreContext } from "../context.ts";

export const keeping: readonly StoreCase[] = [
  { number: "I10", title: "a completed key stays done until its retention ends, and not longer", run: isKept },
  {
    number: "I11",
    title: "cleaning removes ended records only, at most `limit`",
    run: cleans,
  },
];

const SHORT_MS = 300;
const ROUNDING_MS = 2;

/** Claims and completes a key. Resolves with the claim's token. */
async function completed(store: IdempotencyStore, key: string, retentionMs: number): Promise<string> {
  const token = await claimed(store, key);
  assert.equal(await store.complete(key, token, retentionMs), "completed");
  return token;
}

/** Waits until a completed key can be claimed. */
async function forgotten(context: StoreContext, store: IdempotencyStore, key: string): Promise<void> {
  await context.until("a retention to end", async () => {
    const { status } = await store.claim(key, LONG_MS);
    assert.notEqual(status, "busy", "a completed key is busy");
    return status === "claimed";
  });
}

async function isKept(context: StoreContext): Promise<void> {
  const store = await openStore(context);
  const [key, kept] = [context.name(), context.name()];
  await completed(store, kept, LONG_MS);
  const begin = performance.now();
  const token = await completed(store, key, SHORT_MS);
  await forgotten(context, store, key);
  const keptMs = performance.now() - begin;
  assert.ok(keptMs >= SHORT_MS - ROUNDING_MS, `a retention of ${SHORT_MS} ms ended after ${keptMs}`);
  assert.equal((await store.claim(kept, LONG_MS)).status, "done");
  assert.equal(await store.complete(key, token, LONG_MS), "lost", "an old token completed another claim");
  assert.equal((await store.claim(key, LONG_MS)).status, "busy", "the new claim is gone");
}

const ENDED = 12;
const LIMIT = 5;

async function cleans(context: StoreContext): Promise<void> {
  const store = await openStore(context);
  const [held, done, last] = [context.name(), context.name(), context.name()];
  await claimed(store, held);
  await completed(store, done, LONG_MS);
  for (let ended = 0; ended < ENDED; ended++) {
    const key = context.name();
    if (ended % 3 === 0) await claimed(store, key, SHORT_MS);
    else await completed(store, key, SHORT_MS);
  }
  await completed(store, last, SHORT_MS);
  await forgotten(context, store, last);
  const { count, removesByItself = false } = context.harness;
  const records = async (): Promise<number> => (await count?.(context.prefix)) ?? 0;
  const all = ENDED + 3;
  if (count !== undefined && !removesByItself) assert.equal(await records(), all, "records before cleaning");
  // On a shared database, cleaning also removes the ended records of others.
  let total = 0;
  for (let before = await records(); ; ) {
    const removed = await store.clean(LIMIT);
    assert.ok(removed >= 0 && removed <= LIMIT, `cleaning at most ${LIMIT} removed ${removed}`);
    const after = await records();
    assert.ok(before - after <= LIMIT || removesByItself, `cleaning at most ${LIMIT} removed ${before - after}`);
    before = after;
    total += removed;
    if (removed === 0) break;
  }
  assert.equal((await store.claim(held, LONG_MS)).status, "busy", "cleaning removed a claim");
  assert.equal((await store.claim(last, LONG_MS)).status, "busy", "cleaning removed a claim");
  assert.equal((await store.claim(done, LONG_MS)).status, "done", "cleaning removed a completed key");
  if (!removesByItself) assert.ok(total >= ENDED, `${total} of ${ENDED} ended records were removed`);
  else if (count === undefined) context.cannot("the harness cannot count records", undefined);
  if (count !== undefined)
    await context.until("ended records to be removed", async () => (await records()) === all - ENDED);
}

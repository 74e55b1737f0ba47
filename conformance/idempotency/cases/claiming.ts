import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { LONGEST_KEY } from "../../../patterns/idempotency/index.ts";
import { LONG_MS } from "../../stores/suite.ts";
import type { StoreCase } from "../case.ts";
import { claimed, openStore, type StoreContext } from "../context.ts";

export const claiming: readonly StoreCase[] = [
  { number: "I1", title: "claim, complete, done for all; a second completion changes nothing", run: completes },
  {
    number: "I2",
    title: "a claim is busy for others, with its remaining time; a released key is free at once",
    run: releases,
  },
  { number: "I3", title: "one of many concurrent claims wins", run: oneWins },
  { number: "I4", title: "with concurrent claims, failures and completions, every key is done once", run: doneOnce },
  { number: "I5", title: "keys are compared exactly, with any characters and length", run: keepsKeysApart },
];

async function completes(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  const key = context.name();
  const token = await claimed(store, key);
  assert.ok(token !== "", "the token is empty");
  assert.equal(await store.complete(key, token, LONG_MS), "completed");
  for (const one of [store, other]) assert.deepEqual(await one.claim(key, LONG_MS), { status: "done" });
  assert.equal(await store.complete(key, token, LONG_MS), "completed", "a completion whose answer was lost");
  assert.equal(await store.release(key, token), "lost", "a completed key was released");
  assert.equal(await store.renew(key, token, 1), "lost", "a completed key was renewed");
  assert.deepEqual(await other.claim(key, LONG_MS), { status: "done" });
}

async function releases(context: StoreContext): Promise<void> {
  const [store, other] = [await openStore(context), await openStore(context)];
  const key = context.name();
  const token = await claimed(store, key);
  for (const one of [store, other]) {
    const result = await one.claim(key, LONG_MS);
    if (result.status !== "busy") assert.fail(`a key that is held was ${result.status}`);
    const { remainingMs } = result;
    // Even on a slow machine more than half of the lease is left.
    assert.ok(remainingMs > LONG_MS / 2 && remainingMs <= LONG_MS + 1, `held for ${remainingMs} ms of ${LONG_MS}`);
  }
  assert.equal(await store.release(key, token), "released");
  assert.equal(await store.release(key, token), "lost", "a second release");
  assert.equal(await store.complete(key, token, LONG_MS), "lost", "a released claim was completed");
  const next = await claimed(other, key);
  assert.notEqual(next, token, "two claims have the same token");
  assert.equal(await other.complete(key, next, LONG_MS), "completed");
}

const STORES = 4;
const RACES = 20;
const RACERS = 8;

async function openSeveral(context: StoreContext) {
  return Promise.all(Array.from({ length: STORES }, () => openStore(context)));
}

async function oneWins(context: StoreContext): Promise<void> {
  const stores = await openSeveral(context);
  for (let race = 0; race < RACES; race++) {
    const key = context.name();
    const racers = Array.from({ length: RACERS }, (_, racer) => stores[racer % STORES]?.claim(key, LONG_MS));
    const results = await Promise.all(racers);
    const won = results.filter((result) => result?.status === "claimed").length;
    assert.equal(won, 1, `${won} of ${RACERS} concurrent claims won`);
    assert.equal(results.filter((result) => result?.status === "busy").length, RACERS - 1);
  }
}

const KEYS = 20;
const WORKERS = 8;

async function doneOnce(context: StoreContext): Promise<void> {
  const stores = await openSeveral(context);
  const keys = Array.from({ length: KEYS }, () => context.name());
  const inside = new Map<string, number>();
  const completed = new Map<string, number>();
  const work = async (worker: number): Promise<void> => {
    const store = stores[worker % STORES];
    if (store === undefined) return;
    const open = new Set(keys);
    while (open.size > 0) {
      const left = [...open];
      const key = left[Math.floor(context.random() * left.length)] ?? "";
      const result = await store.claim(key, LONG_MS);
      if (result.status === "done") open.delete(key);
      if (result.status !== "claimed") {
        await turn();
        continue;
      }
      assert.equal(inside.get(key) ?? 0, 0, "two claims hold one key");
      assert.equal(completed.get(key) ?? 0, 0, "a completed key was claimed");
      inside.set(key, 1);
      await turn();
      inside.set(key, 0);
      if (context.random() < 0.5) {
        assert.equal(await store.release(key, result.token), "released");
      } else {
        completed.set(key, (completed.get(key) ?? 0) + 1);
        assert.equal(await store.complete(key, result.token, LONG_MS), "completed");
      }
    }
  };
  await context.inTime(
    "all keys to be done",
    Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker))),
  );
  assert.deepEqual(
    [...completed.values()],
    keys.map(() => 1),
  );
}

async function keepsKeysApart(context: StoreContext): Promise<void> {
  const store = await openStore(context);
  const ascii = Array.from({ length: 0x7f - 0x20 }, (_, index) => String.fromCharCode(0x20 + index)).join("");
  const fill = (text: string): string => text.padEnd(LONGEST_KEY - 1, "k");
  const tails = [
    ...["", " ", "  ", ".", "a", "A", "a ", "'", "''", '"', "\\", "\\\\", "%", "_", "*", "?", "[a]", "{a}", "$1", ":1"],
    ...["a:b", "a/b", "--", "; --", "\\u0000", "%00", "null", "0", "00", "1e3", "1000", ascii],
  ];
  const keys = [...tails.map((tail) => `${context.prefix}${tail}`), ` ${context.prefix}`];
  keys.push(`${fill(context.prefix)}a`, `${fill(context.prefix)}b`, fill(context.prefix));
  const tokens = new Map<string, string>();
  for (const key of keys) tokens.set(key, await claimed(store, key));
  assert.equal(new Set(tokens.values()).size, keys.length, "two claims have the same token");
  for (const [index, key] of keys.entries()) {
    if (index % 2 === 0) assert.equal(await store.complete(key, tokens.get(key) ?? "", LONG_MS), "completed");
  }
  for (const [index, key] of keys.entries()) {
    const { status } = await store.claim(key, LONG_MS);
    assert.equal(status, index % 2 === 0 ? "done" : "busy", `the key ${JSON.stringify(key)}`);
  }
  // The token of another key, which differs only at its end, does nothing.
  assert.equal(await store.release(keys[1] ?? "", tokens.get(keys[3] ?? "") ?? ""), "lost", "another key's token");
}

import assert from "node:assert/strict";
import type { IdempotencyStore } from "../../patterns/idempotency/index.ts";
import { type StoreContext as AnyStoreContext, LONG_MS } from "../stores/suite.ts";
import type { StoreHarness } from "./harness.ts";

/** The tools of a case. */
export type StoreContext = AnyStoreContext<StoreHarness>;

/** A store with its own connections. */
export async function openStore(context: StoreContext): Promise<IdempotencyStore> {
  const { store, close } = await context.harness.open();
  context.cleanUp(close);
  return store;
}

/** Claims a key that has to be free. Resolves with the token. */
export async function claimed(store: IdempotencyStore, key: string, leaseMs = LONG_MS): Promise<string> {
  const result = await store.claim(key, leaseMs);
  if (result.status === "claimed") return result.token;
  return assert.fail(`a free key was ${result.status}`);
}

import type { OpenStore } from "../../../conformance/idempotency/index.ts";
import { postgresIdempotencyStore } from "../../../patterns/idempotency/postgres-store.ts";
import { openPoolOfOwnParsers } from "../postgres-pool.ts";

/** Opens the store of a database, with a pool of its own; a process of the conformance suite does it too. */
export function openStore(url: string): OpenStore {
  const pool = openPoolOfOwnParsers(url);
  return { store: postgresIdempotencyStore(pool, { timeoutMs: 20_000 }), close: () => pool.end() };
}

import { Pool } from "pg";
import { postgresIdempotencyStore } from "../../../patterns/idempotency/postgres/index.ts";
import type { OpenStore } from "../../conformance/idempotency/index.ts";

/** A pool as a user is told to make it. */
export function openPool(url: string): Pool {
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5_000 });
  // Of connections that break while nobody uses them; without a listener they end the process.
  pool.on("error", () => undefined);
  return pool;
}

/** Opens the store of a database, with a pool of its own; a process of the conformance suite does it too. */
export function openStore(url: string): OpenStore {
  const pool = openPool(url);
  return { store: postgresIdempotencyStore(pool), close: () => pool.end() };
}

import { Pool } from "pg";

/** A pool as a user is told to make it, with more patience: a busy machine connects slowly. */
export function openPool(url: string): Pool {
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 20_000 });
  // Of connections that break while nobody uses them; without a listener they end the process.
  pool.on("error", () => undefined);
  return pool;
}

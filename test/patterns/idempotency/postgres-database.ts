import { Pool, type PoolConfig } from "pg";
import { postgresIdempotencyStore } from "../../../patterns/idempotency/postgres/index.ts";
import type { OpenStore } from "../../conformance/idempotency/index.ts";

/** A pool as a user is told to make it. */
export function openPool(url: string, config: PoolConfig = {}): Pool {
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5_000, ...config });
  // Of connections that break while nobody uses them; without a listener they end the process.
  pool.on("error", () => undefined);
  return pool;
}

const TEXT = 25;

/**
 * A pool of an application that has parsers of its own for every type but text: no store may ask what they make of a number,
 * of bytes or of JSON.
 */
export function openPoolOfOwnParsers(url: string): Pool {
  const parserOf = (type: number) => (text: string) => (type === TEXT ? text : { parsed: text });
  return openPool(url, { types: { getTypeParser: parserOf as never } });
}

/** Opens the store of a database, with a pool of its own; a process of the conformance suite does it too. */
export function openStore(url: string): OpenStore {
  const pool = openPoolOfOwnParsers(url);
  return { store: postgresIdempotencyStore(pool), close: () => pool.end() };
}

import { Pool, type PoolConfig } from "pg";

/** A pool as a user is told to make it, with more patience: a busy machine connects slowly. */
export function openPool(url: string, config: PoolConfig = {}): Pool {
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 20_000, ...config });
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

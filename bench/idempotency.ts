import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createBroker, type Middleware } from "anybroker";
import { type IdempotencyStore, idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { postgresIdempotencyStore } from "anybroker/idempotency/postgres";
import { redisIdempotencyStore } from "anybroker/idempotency/redis";
import { sqliteIdempotencyStore } from "anybroker/idempotency/sqlite";
import { memory } from "anybroker/memory";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { startPostgres } from "../test/brokers/postgres.ts";
import { startValkey } from "../test/brokers/valkey.ts";
import { freshQueue, ORDER } from "./body.ts";
import { type Comparison, callsPerSecond, countdown } from "./measure.ts";

const CONCURRENCY = 50;
const CONNECTIONS = 10;

/** Compares, and is done with the store afterwards. */
type Run = (comparisons: readonly Comparison[]) => Promise<void>;

/**
 * What the middleware adds to a message that comes once, for each store: the difference of the two figures is its cost.
 * The broker is in process, so that nothing else is measured.
 */
export async function idempotency(run: Run): Promise<void> {
  await run([compared("memory", 20_000, memoryIdempotencyStore())]);
  await withSqlite((store) => run([compared("SQLite, WAL", 5_000, store)]));
  await withPostgres((store, version) =>
    run([compared(`Postgres ${version}, ${CONNECTIONS} connections`, 2_000, store)]),
  );
  await withValkey((store, version) => run([compared(`Valkey ${version}`, 2_000, store)]));
}

function compared(what: string, messages: number, store: IdempotencyStore): Comparison {
  return {
    title: `idempotent consumer, ${what}, ${CONCURRENCY} at a time`,
    unit: "µs a message",
    better: "lower",
    target: undefined,
    rounds: 5,
    theirs: { name: "without the middleware", run: () => consume(messages, []) },
    ours: { name: "with it", run: () => consume(messages, [idempotent(store)]) },
  };
}

/** Microseconds a message, from the first to the last one handled. */
async function consume(messages: number, use: readonly Middleware[]): Promise<number> {
  const orders = freshQueue("idempotency");
  const broker = createBroker(memory(), { publish: { maxMessages: messages, maxBytes: 2 ** 30 } });
  const { tick, done } = countdown(messages);
  const consumer = broker.consume(orders, tick, { concurrency: CONCURRENCY, use });
  consumer.pause();
  await broker.start();
  await callsPerSecond(messages, messages, () => broker.send(orders, ORDER));
  const begin = performance.now();
  consumer.resume();
  await done;
  const us = ((performance.now() - begin) * 1_000) / messages;
  await broker.stop();
  return us;
}

async function withSqlite(use: (store: IdempotencyStore) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "anybroker-bench-"));
  const database = new DatabaseSync(join(folder, "keys.db"));
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
  try {
    await use(sqliteIdempotencyStore(database));
  } finally {
    database.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function withPostgres(use: (store: IdempotencyStore, version: string) => Promise<void>): Promise<void> {
  const server = await startPostgres();
  const place = await server.newDatabase();
  const pool = new Pool({ connectionString: place.url, max: CONNECTIONS });
  // The server ends what is left of the connections when the database is dropped.
  pool.on("error", () => {});
  try {
    const store = postgresIdempotencyStore(pool);
    await store.migrate();
    await use(store, server.version);
  } finally {
    await pool.end();
    await place.remove();
    await server.stop();
  }
}

async function withValkey(use: (store: IdempotencyStore, version: string) => Promise<void>): Promise<void> {
  const server = await startValkey();
  const place = server.newNamespace();
  const client = new Redis(server.url);
  try {
    await use(redisIdempotencyStore(client, { keyPrefix: place.keyPrefix }), server.version);
  } finally {
    client.disconnect();
    await place.remove();
    await server.stop();
  }
}

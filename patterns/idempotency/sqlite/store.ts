import { randomUUID } from "node:crypto";
import { checkOptions } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/index.ts";
import { askSqlite, OwnSqlite } from "../../../sql/sqlite.ts";
import { checkTableName } from "../../../sql/tables.ts";
import type { ClaimResult, IdempotencyStore } from "../store.ts";

/** What the store needs of a database: the `DatabaseSync` of `node:sqlite` fits as it is. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  /** Whether a transaction is open. */
  readonly isTransaction?: boolean;
}

/** A prepared statement. */
export interface SqliteStatement {
  get(...values: (string | number)[]): unknown;
  run(...values: (string | number)[]): { readonly changes: number | bigint };
}

/** The options of {@link sqliteIdempotencyStore}. */
export interface SqliteIdempotencyStoreOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** Whether to make the table if it is not there. Default true. */
  readonly create?: boolean;
}

/** What messages call it. */
const STORE = "idempotency store";
/** SQLite's own time of day, in milliseconds; the same all through one statement. */
const NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/**
 * A store in a SQLite database, for the processes of one machine. Its time is the machine's.
 *
 * Give it a connection of its own, in WAL mode and with a short `timeout`: a call waits that long for the lock of another
 * process, and the event loop with it, but one call at a time: others reject with `unreachable` meanwhile. Inside of an open transaction a call rejects with `conflict`: a rollback would take
 * back the claim. The store never closes the connection. Throws `invalid` for wrong options, and `not-found` without a
 * table where it is not to make one.
 */
export function sqliteIdempotencyStore(
  database: SqliteDatabase,
  options: SqliteIdempotencyStoreOptions = {},
): IdempotencyStore {
  checkOptions("sqliteIdempotencyStore", options, ["table", "create"]);
  const { table = "anybroker_idempotency", create = true } = options;
  checkTableName("sqliteIdempotencyStore { table }", table);
  if (create) makeTable(database, table);
  return new SqliteIdempotencyStore(database, table);
}

function makeTable(database: SqliteDatabase, table: string): void {
  askSqlite(STORE, "make the table", () => {
    database.exec(`
      CREATE TABLE IF NOT EXISTS "${table}" (
        key TEXT NOT NULL PRIMARY KEY,
        token TEXT NOT NULL,
        done INTEGER NOT NULL,
        ends_at INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS "${table}_ends_at" ON "${table}" (ends_at);
    `);
  });
}

interface Standing {
  readonly done: number;
  readonly remaining: number;
}

class SqliteIdempotencyStore implements IdempotencyStore {
  readonly name = "sqlite";
  readonly #own: OwnSqlite;
  readonly #claim: SqliteStatement;
  readonly #look: SqliteStatement;
  readonly #renew: SqliteStatement;
  readonly #complete: SqliteStatement;
  readonly #release: SqliteStatement;
  readonly #clean: SqliteStatement;

  constructor(database: SqliteDatabase, table: string) {
    this.#own = new OwnSqlite(STORE, database);
    const prepare = (sql: string): SqliteStatement => prepared(database, table, sql);
    this.#claim = prepare(`
      INSERT INTO "${table}" AS t (key, token, done, ends_at) VALUES (?, ?, 0, ${NOW} + ?)
      ON CONFLICT (key) DO UPDATE SET token = excluded.token, done = 0, ends_at = excluded.ends_at
      WHERE t.ends_at < ${NOW}`);
    this.#look = prepare(`SELECT done, ends_at - ${NOW} AS remaining FROM "${table}" WHERE key = ?`);
    this.#renew = prepare(`UPDATE "${table}" SET ends_at = ${NOW} + ? WHERE key = ? AND token = ? AND done = 0`);
    this.#complete = prepare(`UPDATE "${table}" SET done = 1, ends_at = ${NOW} + ? WHERE key = ? AND token = ?`);
    this.#release = prepare(`DELETE FROM "${table}" WHERE key = ? AND token = ? AND done = 0`);
    this.#clean = prepare(`
      DELETE FROM "${table}" WHERE key IN (SELECT key FROM "${table}" WHERE ends_at < ${NOW} ORDER BY ends_at LIMIT ?)`);
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    for (;;) {
      if (this.#change(this.#claim, key, token, leaseMs) > 0) return { status: "claimed", token };
      const found = this.#ask(() => this.#look.get(key)) as Standing | undefined;
      // Gone or over since the claim: the next one may get it.
      if (found === undefined || found.remaining < 0) continue;
      return found.done === 1 ? { status: "done" } : { status: "busy", remainingMs: found.remaining };
    }
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    return this.#change(this.#renew, leaseMs, key, token) > 0 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    return this.#change(this.#complete, retentionMs, key, token) > 0 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    return this.#change(this.#release, key, token) > 0 ? "released" : "lost";
  }

  async clean(limit: number): Promise<number> {
    return this.#change(this.#clean, limit);
  }

  #change(statement: SqliteStatement, ...values: (string | number)[]): number {
    return this.#ask(() => Number(statement.run(...values).changes));
  }

  #ask<T>(action: () => T): T {
    return this.#own.ask(action);
  }
}

function prepared(database: SqliteDatabase, table: string, sql: string): SqliteStatement {
  try {
    return database.prepare(sql);
  } catch (cause) {
    throw new MessagingError(
      "not-found",
      `the idempotency store's table "${table}" is not there or is another; leave out create: false, or make it as the documentation says`,
      { cause },
    );
  }
}

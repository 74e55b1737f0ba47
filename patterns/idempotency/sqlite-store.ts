import { randomUUID } from "node:crypto";
import { checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { checkTableName } from "../../sql/schema.ts";
import {
  SQLITE_NOW as NOW,
  runSqlite,
  type SqliteDatabase,
  SqliteQueries,
  type SqliteStatement,
} from "../../sql/sqlite.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

export type { SqliteDatabase, SqliteStatement, SqliteValue } from "../../sql/sqlite.ts";

/** The options of {@link sqliteIdempotencyStore}. */
export interface SqliteIdempotencyStoreOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** Whether to create a missing table. Default true. */
  readonly create?: boolean;
}

/** Its name in messages. */
const STORE = "idempotency store";

/**
 * A store in a SQLite database, for the processes of one machine. It uses the machine's time.
 *
 * Give it its own connection, in WAL mode and with a short `timeout`. A call waits that long for the lock of another process
 * and blocks the event loop; meanwhile other calls reject with `unreachable`. In an open transaction a call rejects with
 * `conflict`, because a rollback would undo the claim. The store never closes the connection.
 *
 * Throws `invalid` for wrong options, and `not-found` for a missing table with `create: false`.
 */
export function sqliteIdempotencyStore(
  database: SqliteDatabase,
  options: SqliteIdempotencyStoreOptions = {},
): IdempotencyStore {
  checkOptions("sqliteIdempotencyStore", options, ["table", "create"]);
  const { table = "anybroker_idempotency", create = true } = options;
  checkTableName("sqliteIdempotencyStore { table }", table);
  return new SqliteIdempotencyStore(database, table, create);
}

/** A record that exists. */
interface StoredRecord {
  readonly done: number;
  readonly remaining: number;
}

class SqliteIdempotencyStore implements IdempotencyStore {
  readonly name = "sqlite";
  readonly #queries: SqliteQueries;
  readonly #claim: SqliteStatement;
  readonly #find: SqliteStatement;
  readonly #renew: SqliteStatement;
  readonly #complete: SqliteStatement;
  readonly #release: SqliteStatement;
  readonly #clean: SqliteStatement;

  constructor(database: SqliteDatabase, table: string, create: boolean) {
    this.#queries = new SqliteQueries(STORE, database);
    if (create) runSqlite(STORE, "create the table", () => database.exec(tableSql(table)));
    const prepare = (sql: string): SqliteStatement => prepared(database, table, sql);
    this.#claim = prepare(`
      INSERT INTO "${table}" AS t (key, token, done, ends_at) VALUES (?, ?, 0, ${NOW} + ?)
      ON CONFLICT (key) DO UPDATE SET token = excluded.token, done = 0, ends_at = excluded.ends_at
      WHERE t.ends_at < ${NOW}`);
    this.#find = prepare(`SELECT done, ends_at - ${NOW} AS remaining FROM "${table}" WHERE key = ?`);
    this.#renew = prepare(`UPDATE "${table}" SET ends_at = ${NOW} + ? WHERE key = ? AND token = ? AND done = 0`);
    this.#complete = prepare(`UPDATE "${table}" SET done = 1, ends_at = ${NOW} + ? WHERE key = ? AND token = ?`);
    this.#release = prepare(`DELETE FROM "${table}" WHERE key = ? AND token = ? AND done = 0`);
    this.#clean = prepare(`
      DELETE FROM "${table}" WHERE key IN (SELECT key FROM "${table}" WHERE ends_at < ${NOW} ORDER BY ends_at LIMIT ?)`);
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    for (;;) {
      if (this.#change("claim a key", this.#claim, key, token, leaseMs) > 0) return { status: "claimed", token };
      const found = this.#queries.run("read a key", () => this.#find.get(key)) as StoredRecord | undefined;
      // The record ended since the claim, so the next claim may get it.
      if (found === undefined || found.remaining < 0) continue;
      return found.done === 1 ? { status: "done" } : { status: "busy", remainingMs: found.remaining };
    }
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    return this.#change("renew a claim", this.#renew, leaseMs, key, token) > 0 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    return this.#change("complete a claim", this.#complete, retentionMs, key, token) > 0 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    return this.#change("release a claim", this.#release, key, token) > 0 ? "released" : "lost";
  }

  async clean(limit: number): Promise<number> {
    return this.#change("clean up", this.#clean, limit);
  }

  #change(action: string, statement: SqliteStatement, ...values: (string | number)[]): number {
    return this.#queries.run(action, () => Number(statement.run(...values).changes));
  }
}

function tableSql(table: string): string {
  return `
CREATE TABLE IF NOT EXISTS "${table}" (
  key TEXT NOT NULL PRIMARY KEY,
  token TEXT NOT NULL,
  done INTEGER NOT NULL,
  ends_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS "${table}_ends_at" ON "${table}" (ends_at);`;
}

function prepared(database: SqliteDatabase, table: string, sql: string): SqliteStatement {
  try {
    return database.prepare(sql);
  } catch (cause) {
    throw new MessagingError(
      "not-found",
      `the ${STORE}'s table "${table}" is not there or is another: remove create: false, or create it as the documentation says`,
      { cause },
    );
  }
}

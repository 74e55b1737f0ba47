import { isMessagingError, MessagingError } from "../core/errors.ts";

/** What a store needs of a SQLite database. The `DatabaseSync` of `node:sqlite` fits. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  /** Whether a transaction is open. */
  readonly isTransaction?: boolean;
}

/** A database connection that a store opens and closes. The `DatabaseSync` of `node:sqlite` fits. */
export interface OwnedSqliteDatabase extends SqliteDatabase {
  close(): void;
  readonly isTransaction: boolean;
}

/** A value of a column. */
export type SqliteValue = string | number | bigint | Uint8Array | null;

/** A prepared statement. */
export interface SqliteStatement {
  all(...values: SqliteValue[]): unknown[];
  get(...values: SqliteValue[]): unknown;
  run(...values: SqliteValue[]): { readonly changes: number | bigint };
}

/** An expression for SQLite's time of day in milliseconds. It is constant within one statement. */
export const SQLITE_NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/** Primary result codes: https://www.sqlite.org/rescode.html */
const BUSY = 5;
const LOCKED = 6;
const READ_ONLY = 8;
const CONSTRAINT = 19;
/** Out of memory, interrupted, input or output failed, the disk is full: SQLite may roll back by itself. */
const BREAKDOWNS = [7, 9, 10, 13];

/** Runs calls on a SQLite connection that only one store uses, and translates errors. */
export class SqliteQueries {
  readonly #store: string;
  readonly #database: SqliteDatabase;
  /** Why the lock was not available in this turn of the event loop. */
  #locked: MessagingError | undefined;

  /** `store` is its name in messages, as in `idempotency store`. */
  constructor(store: string, database: SqliteDatabase) {
    this.#store = store;
    this.#database = database;
  }

  /**
   * Runs a call. Throws `conflict` in an open transaction, and otherwise as {@link runSqlite}. After a call
   * that timed out on the lock of another process, later calls of the same turn of the event loop fail at once: their
   * waits would add up.
   */
  run<T>(action: string, call: () => T): T {
    if (this.#locked !== undefined) throw this.#locked;
    try {
      return runSqlite(this.#store, action, () => {
        if (this.#database.isTransaction !== true) return call();
        throw new MessagingError(
          "conflict",
          `a transaction is open on the ${this.#store}'s SQLite connection: give the store its own connection`,
        );
      });
    } catch (error) {
      if (isMessagingError(error) && resultCode(error.cause) === BUSY) {
        this.#locked = error;
        setImmediate(() => {
          this.#locked = undefined;
        });
      }
      throw error;
    }
  }
}

/** Runs a call on a SQLite database. Throws `refused` for a row that its table refuses, else as {@link sqliteFailure}. */
export function runSqlite<T>(store: string, action: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw isConstraint(cause) ? sqliteRefusal(store, cause) : sqliteFailure(store, action, cause);
  }
}

/** Translates an error of SQLite. `store` is its name in messages, as in `outbox store`. */
export function sqliteFailure(store: string, action: string, cause: unknown): MessagingError {
  if (isMessagingError(cause)) return cause;
  const where = `the ${store}'s SQLite database did not ${action}`;
  if (cause instanceof Error && cause.message.includes("no such table")) {
    return new MessagingError("not-found", `${where}: create its tables, or set { table }`, { cause });
  }
  if (resultCode(cause) === READ_ONLY) {
    return new MessagingError("unauthorized", `${where}: the file or the connection is read-only`, { cause });
  }
  const advice = isBusy(cause) ? "another connection holds its lock" : "see the cause";
  return new MessagingError("unreachable", `${where}: ${advice}; the call can be repeated`, { cause });
}

/** The error for a row that the table refuses for its content. */
export function sqliteRefusal(store: string, cause: unknown): MessagingError {
  return new MessagingError(
    "refused",
    `the ${store}'s SQLite database refused this row: look for your own constraint or trigger on its table; see the cause`,
    { cause },
  );
}

/** Whether another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code === BUSY || code === LOCKED;
}

/** Whether the database itself failed, for example because the disk is full. */
export function isBreakdown(error: unknown): boolean {
  return BREAKDOWNS.includes(resultCode(error) ?? 0);
}

/** Whether a row violates a constraint of the schema. */
export function isConstraint(error: unknown): boolean {
  return resultCode(error) === CONSTRAINT;
}

/** The primary result code of an error of `node:sqlite`; undefined for other errors. */
function resultCode(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

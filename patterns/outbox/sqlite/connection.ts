import { type Clock, isMessagingError, MessagingError } from "../../../core/index.ts";
import { resultCode } from "../../../sql/sqlite.ts";

/** What the stores need of a connection: the `DatabaseSync` of `node:sqlite` fits as it is. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  close(): void;
  /** Whether a transaction is open. */
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

/** Primary result codes: https://www.sqlite.org/rescode.html */
const BUSY = 5;
const LOCKED = 6;
const READ_ONLY = 8;
const CONSTRAINT = 19;
/** Out of memory, interrupted, input or output failed, the disk is full: SQLite may roll back at once. */
const BREAKDOWNS = [7, 9, 10, 13];

/** Whether another connection holds the lock. */
function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code === BUSY || code === LOCKED;
}

/** Whether the database itself failed, as when the disk is full, and not what was asked of it. */
export function isBreakdown(error: unknown): boolean {
  const code = resultCode(error);
  return code !== undefined && BREAKDOWNS.includes(code);
}

/** Whether what was written breaks a rule of the schema. */
export function isConstraint(error: unknown): boolean {
  return resultCode(error) === CONSTRAINT;
}

/** Says of a failed call what went wrong and what to do. The cause keeps SQLite's own error. */
export function sqliteFailure(action: string, cause: unknown): MessagingError {
  if (isMessagingError(cause)) return cause;
  const where = `the SQLite database did not ${action}`;
  if (cause instanceof Error && cause.message.includes("no such table")) {
    return new MessagingError("not-found", `${where}: make its tables with migrate(), or name those that there are`, {
      cause,
    });
  }
  if (resultCode(cause) === READ_ONLY) {
    return new MessagingError("unauthorized", `${where}: the file, or the connection, takes no writes`, { cause });
  }
  const advice = isBusy(cause) ? "another connection holds its lock for long" : "see the cause";
  return new MessagingError("unreachable", `${where}: ${advice}; the call may be made again`, { cause });
}

/** How often a lock that somebody else holds is tried again, in milliseconds; half as often at most. */
const AGAIN_MS = 10;

/**
 * A connection that is opened when it is needed, and opened anew after it was closed. One user at a time; the others wait
 * in order.
 */
export class SqliteConnection<Database extends SqliteDatabase> {
  readonly #open: () => Database;
  readonly #clock: Clock;
  #database: Database | undefined = undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(open: () => Database, clock: Clock) {
    this.#open = open;
    this.#clock = clock;
  }

  /**
   * Runs an action in a transaction of its own that may write. Rejects with `unreachable` if it did not begin within `ms`
   * milliseconds.
   */
  async write<T>(what: string, ms: number, action: (database: Database) => T): Promise<T> {
    const result = await this.hold(what, ms, async (database) => {
      try {
        const value = action(database);
        database.exec("COMMIT");
        return { value };
      } catch (error) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw sqliteFailure(what, error);
      }
    });
    if (result !== undefined) return result.value;
    throw tooLate(what, ms);
  }

  /**
   * Begins a transaction that may write, and lets the action have the connection until it has settled, by when the
   * transaction must have ended. Undefined if it did not begin within `ms` milliseconds, or before the signal was aborted.
   */
  async hold<T>(
    what: string,
    ms: number,
    action: (database: Database) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    const end = this.#clock.monotonic() + ms;
    return this.#inTurn(end, signal, () => this.#begun(what, end, signal, action));
  }

  /** Runs an action that only reads, without a transaction of its own. Rejects as {@link write}. */
  async read<T>(what: string, ms: number, action: (database: Database) => T): Promise<T> {
    const result = await this.#inTurn(this.#clock.monotonic() + ms, undefined, async () => {
      try {
        return { value: action(this.#opened()) };
      } catch (error) {
        throw sqliteFailure(what, error);
      }
    });
    if (result !== undefined) return result.value;
    throw tooLate(what, ms);
  }

  async #inTurn<T>(
    end: number,
    signal: AbortSignal | undefined,
    action: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = before.then(() => mine.promise);
    try {
      return (await this.#within(before, end, signal)) ? await action() : undefined;
    } finally {
      mine.resolve();
    }
  }

  /** Closes the connection, and whatever transaction is open on it is rolled back. It is opened anew when it is needed. */
  discard(): void {
    const database = this.#database;
    this.#database = undefined;
    try {
      database?.close();
    } catch {
      // It was closed.
    }
  }

  /** Closes the connection for good, after those that use it. A second call does nothing. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
    this.discard();
  }

  /** Whether a promise resolved in time. Waits for it all the same where nobody else may go before. */
  #within(before: Promise<unknown>, end: number, signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const over = (inTime: boolean): void => {
        this.#clock.cancel(timer);
        signal?.removeEventListener("abort", aborted);
        resolve(inTime);
      };
      const aborted = (): void => over(false);
      const timer = this.#clock.schedule(() => over(false), end - this.#clock.monotonic());
      signal?.addEventListener("abort", aborted);
      void before.then(() => over(signal?.aborted !== true));
    });
  }

  /**
   * Waits for the locks of others without standing in the way of the event loop: they may live in this very process. For
   * the same reason the action begins at once: a caller's connection that waits for the lock stops the process, and whoever
   * holds it with it.
   */
  async #begun<T>(
    what: string,
    end: number,
    signal: AbortSignal | undefined,
    action: (database: Database) => Promise<T>,
  ): Promise<T | undefined> {
    for (;;) {
      if (signal?.aborted === true) return undefined;
      let begun: Database | undefined;
      try {
        const database = this.#opened();
        database.exec("BEGIN IMMEDIATE");
        begun = database;
      } catch (error) {
        if (!isBusy(error)) {
          this.discard();
          throw sqliteFailure(what, error);
        }
      }
      if (begun !== undefined) return await action(begun);
      if (this.#clock.monotonic() >= end) return undefined;
      await new Promise<void>((resolve) => void this.#clock.schedule(resolve, AGAIN_MS * (0.5 + Math.random() / 2)));
    }
  }

  #opened(): Database {
    if (this.#closed) throw new MessagingError("closed", "the SQLite store was closed; make another");
    this.#database ??= this.#open();
    const database = this.#database;
    // A wait inside of SQLite stops the event loop, and those of all that wait for their turn add up.
    database.exec("PRAGMA busy_timeout = 0");
    return database;
  }
}

function tooLate(what: string, ms: number): MessagingError {
  return new MessagingError(
    "unreachable",
    `the SQLite database did not ${what} within ${ms} ms: another connection holds its lock; the call may be made again`,
  );
}

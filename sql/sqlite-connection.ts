import { type Clock, pause, systemClock } from "../core/clock.ts";
import { MessagingError } from "../core/errors.ts";
import { isBusy, type OwnedSqliteDatabase, sqliteFailure } from "./sqlite.ts";

/** How often the store tries a lock that another connection holds, in milliseconds; half as long at least. */
const LOCK_RETRY_MS = 10;

/** A SQLite connection that opens on demand, also after it was closed. Its users take turns, in order. */
export class SqliteConnection<Database extends OwnedSqliteDatabase> {
  readonly #store: string;
  readonly #open: () => Database;
  readonly #clock: Clock = systemClock();
  #database: Database | undefined = undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** `store` is its name in messages, as in `outbox store`. */
  constructor(store: string, open: () => Database) {
    this.#store = store;
    this.#open = open;
  }

  /** Runs a call in a transaction that may write. Rejects with `unreachable` if it cannot begin within `ms`. */
  async write<T>(action: string, ms: number, call: (database: Database) => T): Promise<T> {
    const result = await this.transaction(action, ms, async (database) => {
      try {
        const value = call(database);
        database.exec("COMMIT");
        return { value };
      } catch (error) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw sqliteFailure(this.#store, action, error);
      }
    });
    if (result !== undefined) return result.value;
    throw this.#tooLate(action, ms);
  }

  /** Runs a call that only reads, without a transaction. Rejects as {@link write}. */
  async read<T>(action: string, ms: number, call: (database: Database) => T): Promise<T> {
    const result = await this.#inTurn(this.#clock.monotonic() + ms, undefined, async () => {
      try {
        return { value: call(this.#opened()) };
      } catch (error) {
        throw sqliteFailure(this.#store, action, error);
      }
    });
    if (result !== undefined) return result.value;
    throw this.#tooLate(action, ms);
  }

  /**
   * Begins a transaction that may write, and lends the connection to `work`, which has to end the transaction. Undefined if
   * it did not begin within `ms`, or before the signal was aborted.
   */
  async transaction<T>(
    action: string,
    ms: number,
    work: (database: Database) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    const end = this.#clock.monotonic() + ms;
    return this.#inTurn(end, signal, () => this.#begin(action, end, signal, work));
  }

  /** Closes the connection. SQLite rolls back its open transaction. The next call opens it again. */
  discard(): void {
    const database = this.#database;
    this.#database = undefined;
    try {
      database?.close();
    } catch {
      // The user closed it.
    }
  }

  /** Closes the connection for good, after its current users. A second call does nothing. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
    this.discard();
  }

  async #inTurn<T>(
    end: number,
    signal: AbortSignal | undefined,
    work: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = before.then(() => mine.promise);
    try {
      return (await this.#resolvedInTime(before, end, signal)) ? await work() : undefined;
    } finally {
      mine.resolve();
    }
  }

  #resolvedInTime(before: Promise<unknown>, end: number, signal: AbortSignal | undefined): Promise<boolean> {
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
   * Waits for locks on timers: a wait inside SQLite blocks the event loop, and the lock's holder may run in this process.
   * For the same reason the work starts as soon as the transaction has begun.
   */
  async #begin<T>(
    action: string,
    end: number,
    signal: AbortSignal | undefined,
    work: (database: Database) => Promise<T>,
  ): Promise<T | undefined> {
    while (signal?.aborted !== true) {
      let begun: Database | undefined;
      try {
        const database = this.#opened();
        database.exec("BEGIN IMMEDIATE");
        begun = database;
      } catch (error) {
        if (!isBusy(error)) {
          this.discard();
          throw sqliteFailure(this.#store, action, error);
        }
      }
      if (begun !== undefined) return await work(begun);
      if (this.#clock.monotonic() >= end) return undefined;
      await pause(this.#clock, LOCK_RETRY_MS * (0.5 + Math.random() / 2));
    }
    return undefined;
  }

  #opened(): Database {
    if (this.#closed) throw new MessagingError("closed", `the ${this.#store} was closed: create another`);
    this.#database ??= this.#open();
    const database = this.#database;
    database.exec("PRAGMA busy_timeout = 0");
    return database;
  }

  #tooLate(action: string, ms: number): MessagingError {
    return new MessagingError(
      "unreachable",
      `the ${this.#store}'s SQLite database did not ${action} within ${ms} ms: another connection holds its lock; the call can be repeated`,
    );
  }
}

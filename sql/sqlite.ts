import { isMessagingError, MessagingError } from "../core/errors.ts";

/** The SQLite connection that a store has to itself. `store` is what messages call it, as in `idempotency store`. */
export class OwnSqlite {
  readonly #store: string;
  readonly #database: { readonly isTransaction?: boolean };
  /** Why the lock could not be had in this turn of the event loop. */
  #locked: MessagingError | undefined;

  constructor(store: string, database: { readonly isTransaction?: boolean }) {
    this.#store = store;
    this.#database = database;
  }

  /**
   * Asks the database, and says what went wrong: throws `conflict` inside of an open transaction, `refused` for what its
   * table refuses, and `unreachable` for whatever else SQLite throws. One call in a turn of the event loop waits for the lock
   * of another process; the others of that turn throw at once, or the waits of all that are in flight would add up.
   */
  ask<T>(action: () => T): T {
    if (this.#locked !== undefined) throw this.#locked;
    try {
      return askSqlite(this.#store, "answer", () => {
        if (this.#database.isTransaction !== true) return action();
        throw new MessagingError(
          "conflict",
          `a transaction is open on the ${this.#store}'s SQLite connection; give the store a connection of its own`,
        );
      });
    } catch (error) {
      if (isMessagingError(error, "unreachable") && resultCode(error.cause) === BUSY) {
        this.#locked = error;
        setImmediate(() => {
          this.#locked = undefined;
        });
      }
      throw error;
    }
  }
}

/** Primary result codes: https://www.sqlite.org/rescode.html */
const BUSY = 5;
const CONSTRAINT = 19;

/** Asks a SQLite database, and says what went wrong, as {@link OwnSqlite.ask}. */
export function askSqlite<T>(store: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (isMessagingError(cause)) throw cause;
    if (resultCode(cause) === CONSTRAINT) {
      throw new MessagingError(
        "refused",
        `the ${store}'s SQLite database refuses this very row: look for a constraint or trigger of your own on its table`,
        { cause },
      );
    }
    throw new MessagingError(
      "unreachable",
      `the ${store}'s SQLite database did not ${what}; see the cause, and whether another process holds its lock`,
      { cause },
    );
  }
}

/** The primary result code of what `node:sqlite` threw; undefined for anything else. */
export function resultCode(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

import { isMessagingError, MessagingError } from "./errors.ts";

/**
 * Asks the SQLite database of a store that has a connection to itself, and says what went wrong. Throws `conflict` inside of
 * an open transaction, `refused` for what its table refuses, and `unreachable` for whatever else SQLite throws. `store` is what messages call it, as in `idempotency store`.
 */
export function askOwnSqlite<T>(store: string, database: { readonly isTransaction?: boolean }, action: () => T): T {
  return askSqlite(store, "answer", () => {
    if (database.isTransaction !== true) return action();
    throw new MessagingError(
      "conflict",
      `a transaction is open on the ${store}'s SQLite connection; give the store a connection of its own`,
    );
  });
}

/** Primary result code: https://www.sqlite.org/rescode.html */
const CONSTRAINT = 19;

/** Asks a SQLite database, and says what went wrong, as {@link askOwnSqlite}. */
export function askSqlite<T>(store: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    if (isMessagingError(cause)) throw cause;
    if (isRefusal(cause)) {
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

function isRefusal(error: unknown): boolean {
  if (typeof error !== "object" || error === null || !("errcode" in error)) return false;
  return typeof error.errcode === "number" && (error.errcode & 0xff) === CONSTRAINT;
}

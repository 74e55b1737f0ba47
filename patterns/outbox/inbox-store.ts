/**
 * Where an inbox keeps which messages it has handled: a table in the database of the handler's own writes, so that one
 * transaction holds both. `Transaction` is what the handler writes with. Implementable on any database with transactions
 * and unique keys.
 *
 * A row is the name of a consumer, the id of a message, and when it was handled. Calls may be made at any time, from many
 * processes. A call rejects with a `MessagingError`, in bounded time, if the database cannot be asked, and may be made
 * again later: the store mends its connections by itself. No error holds a credential.
 */
export interface InboxStore<Transaction> {
  /** What the store is, in lower case, as messages to people say it: `postgres`. */
  readonly name: string;

  /**
   * Opens a transaction, puts the row of the message into it, calls `work` with it, and commits if that resolves with
   * true.
   *
   * - `committed`: the row and what the work wrote are kept, as safely as the database keeps anything.
   * - `rolled-back`: the work resolved with false. Nothing is kept.
   * - `duplicate`: the row was there. The work was not called.
   * - `busy`: the row, or the lock that it takes to write it, was held by another transaction for longer than `waitMs`.
   *   The work was not called.
   *
   * A second call for one message waits for the first, and then is `duplicate` or, if the first rolled back, goes on.
   *
   * What the work throws, the call rejects with, after the rollback, unless the database was stopped or restarted
   * meanwhile. Where the connection of the transaction has ended, closing it is the rollback, and what the work resolved
   * or rejected with counts all the same. When `signal` is aborted before the work has ended, the call rejects with its
   * reason without waiting for the work, the transaction is rolled back, and whatever the work still does with it fails.
   * Otherwise the call rejects with a `MessagingError`:
   *
   * - `refused`: nothing is kept, for a reason that may lie in what the work did: a constraint that was deferred, a failed
   *   statement that it passed over, too long a transaction, a connection that was terminated. Before the work was called:
   *   the database refuses the row of this very message.
   * - `conflict`: the work ended the transaction by itself. What it wrote before is kept or not, as it chose.
   * - `unconfirmed`: the commit was asked for, and there was no answer. The row and what the work wrote are kept or not,
   *   both or neither: a further call is `duplicate` if they are.
   * - any other code: it is certain that the work has no part in it. Before the work was called, the database could not be
   *   asked. Afterwards, it said itself that it stops or was restarted; the row and what the work wrote are kept or not, both
   *   or neither. Only this uses up no attempt of the message.
   */
  handle(
    message: InboxMessage,
    work: (transaction: Transaction) => Promise<boolean>,
    options: InboxHandleOptions,
  ): Promise<InboxEnd>;

  /**
   * Removes at most `limit` rows of a consumer that were made more than `olderThanMs` milliseconds ago, oldest first, by
   * the database's own clock. Resolves with how many it removed.
   */
  clean(consumer: string, olderThanMs: number, limit: number): Promise<number>;
}

/** Who handles which message: together the key of a row. */
export interface InboxMessage {
  /** `queue` or `topic/subscription`; at most {@link LONGEST_INBOX_TEXT} characters of printable ASCII. */
  readonly consumer: string;
  /** At most {@link LONGEST_INBOX_TEXT} characters of printable ASCII, told apart exactly. */
  readonly id: string;
}

/** How long one {@link InboxStore.handle} may take before its work begins, and what ends it. */
export interface InboxHandleOptions {
  /** How long another transaction that holds the row is waited for, in milliseconds, from 0 up. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/** How one {@link InboxStore.handle} ended. */
export type InboxEnd = "committed" | "rolled-back" | "duplicate" | "busy";

/** The most characters of a consumer and of an id. */
export const LONGEST_INBOX_TEXT = 256;

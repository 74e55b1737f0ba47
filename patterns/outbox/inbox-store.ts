/**
 * Stores which messages were handled, in the database that handlers write to, so that one transaction covers both.
 * `Transaction` is the connection that handlers write with. Any database with transactions and unique keys can implement it.
 *
 * A row has the name of a consumer, the id of a message, and when it was handled. Calls may be concurrent, from many
 * processes. A call rejects with a `MessagingError`, in bounded time, if the database cannot be reached, and can be repeated
 * later: the store reconnects. No error has a credential.
 */
export interface InboxStore<Transaction> {
  /** The store's name in messages, in lower case: `postgres`. */
  readonly name: string;

  /**
   * Opens a transaction, inserts the row of the message, calls `work`, and commits if `work` resolves with true.
   *
   * - `committed`: the row and the work's writes are committed.
   * - `rolled-back`: the work resolved with false. Nothing is kept.
   * - `duplicate`: the row existed. The work was not called.
   * - `busy`: another transaction held the row, or the lock to write it, for longer than `waitMs`. The work was not called.
   *
   * A second call for one message waits for the first. Then it is a `duplicate`, or continues if the first rolled back.
   *
   * If the work throws, the call rejects with that error after the rollback, unless the database was stopped or restarted
   * meanwhile. If the connection has ended, the database rolls back, and the result or error of the work still counts. If
   * `signal` is aborted before the work has ended, the call rejects with its reason at once and rolls back, and later writes
   * of the work fail. Otherwise the call rejects with a `MessagingError`:
   *
   * - `refused`: nothing is kept, and the work may be the reason: a deferred constraint, a failed statement that it ignored, a
   *   transaction that took too long, a terminated connection. Before the work: the database refuses the row of this message.
   * - `conflict`: the work ended the transaction. Its earlier writes are kept if it committed them.
   * - `unconfirmed`: the commit got no answer. The row and the work's writes are kept, both or neither; a later call is a
   *   `duplicate` if they are.
   * - any other code: the work is certainly not the reason. Before the work, the database could not be reached. After it, the
   *   database reported that it stops or was restarted; the row and the work's writes are kept, both or neither. Only these
   *   codes use no attempt of the message.
   */
  handle(
    message: InboxMessage,
    work: (transaction: Transaction) => Promise<boolean>,
    options: InboxHandleOptions,
  ): Promise<InboxEnd>;

  /**
   * Removes at most `limit` rows of a consumer that are older than `olderThanMs` milliseconds, oldest first, by the database's
   * clock. Resolves with their number.
   */
  clean(consumer: string, olderThanMs: number, limit: number): Promise<number>;
}

/** A consumer and a message: the key of a row. */
export interface InboxMessage {
  /** `queue` or `topic/subscription`; at most {@link LONGEST_INBOX_TEXT} characters of printable ASCII. */
  readonly consumer: string;
  /** At most {@link LONGEST_INBOX_TEXT} characters of printable ASCII, compared exactly. */
  readonly id: string;
}

/** The limits of one {@link InboxStore.handle}. */
export interface InboxHandleOptions {
  /** How long to wait for another transaction that holds the row, in milliseconds; 0 or more. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/** The result of {@link InboxStore.handle}. */
export type InboxEnd = "committed" | "rolled-back" | "duplicate" | "busy";

/** The most characters of a consumer and of an id. */
export const LONGEST_INBOX_TEXT = 256;

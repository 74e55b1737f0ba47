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
   * - `ended-early`: the row existed because the work of an earlier call, which was aborted or failed, had ended the
   *   transaction by itself and kept it. The work was not called. A store reports it once, where it can.
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
export type InboxEnd = "committed" | "rolled-back" | "duplicate" | "ended-early" | "busy";

/** The most characters of a consumer and of an id. */
export const LONGEST_INBOX_TEXT = 256;

const MOST_UNSETTLED = 10_000;

/**
 * Messages whose work was aborted, or failed together with its connection, before the store could see whether the work had
 * ended the transaction by itself. Their rows are no proof that they were handled.
 */
export class UnsettledMessages<Detail> {
  readonly #details = new Map<string, Detail>();

  add(message: InboxMessage, detail: Detail): void {
    this.#details.set(keyOf(message), detail);
    if (this.#details.size <= MOST_UNSETTLED) return;
    for (const oldest of this.#details.keys()) return void this.#details.delete(oldest);
  }

  /** Returns what was added for a message, and forgets it. */
  take(message: InboxMessage): Detail | undefined {
    if (this.#details.size === 0) return undefined;
    const key = keyOf(message);
    const detail = this.#details.get(key);
    this.#details.delete(key);
    return detail;
  }
}

function keyOf({ consumer, id }: InboxMessage): string {
  return `${consumer} ${id}`;
}

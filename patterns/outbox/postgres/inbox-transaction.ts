import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { inTime } from "../../../core/stores.ts";
import { isRowRefusal, ownStateOf, postgresFailure, stateOf } from "../../../sql/postgres.ts";
import type { InboxMessage } from "../inbox-store.ts";

/** A connection that a pool lent. The `PoolClient` of `pg` fits, and handlers get it. */
export interface PostgresInboxClient {
  /** Runs one statement, or several without values. Resolves with the result, or with an array of results. */
  query(text: string, values?: unknown[]): Promise<unknown>;
  /** Gives the connection back, or closes it with `true`. */
  release(close?: boolean): void;
  on(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
  off(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
}

/** Translates an error of the inbox's database. */
export function inboxFailure(action: string, error: unknown): MessagingError {
  return postgresFailure("inbox", action, error, {
    // Not `conflict`, which says that the handler ended its transaction.
    "42703": { code: "unreachable", advice: "its table is of another program: set { table }" },
    "42P10": { code: "unreachable", advice: "its table has no primary key: create it with migrate()" },
  });
}

/** The server closes a connection that idles in a transaction, or whose transaction takes too long. */
const TOO_LONG = ["25P03", "25P04"];
const NO_TRANSACTION = "25P01";
const LOCK_TIMEOUT = "55P03";
const ADMIN_SHUTDOWN = "57P01";
/** A process of the server crashed, and the server ended all others. */
const CRASH_SHUTDOWN = "57P02";

const FAILED_TRANSACTION = "25P02";
const OWN_XID = "SELECT pg_current_xact_id_if_assigned()::text AS xid";

/** What became of a transaction. */
export interface TransactionStatus {
  readonly status: string | null;
}

/** Asks for the {@link TransactionStatus} of a transaction, given its checked id. */
export function statusOf(xid: string): string {
  return `pg_xact_status('${xid}'::xid8) AS status`;
}

/** Whether a transaction was kept, or may be: one that is prepared is in progress. */
function isKept(found: TransactionStatus | undefined): boolean {
  return found?.status !== "aborted";
}

interface Opened {
  readonly xid: string;
  readonly started: string;
}

/**
 * Why the connection of a transaction ended. `server`: the server said that it goes down. `terminated`: the server said that
 * it ends this connection, for the handler or for a shutdown. `unknown`: anything else.
 */
type ConnectionEnd = "server" | "terminated" | "unknown";

/** One transaction on one connection, from its begin to its end. Its creator has to end it. */
export class PostgresInboxTransaction {
  readonly #client: PostgresInboxClient;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #connectionError: unknown = undefined;
  #notice = "";
  #ended = false;
  #xid = "";
  #started = "";

  constructor(client: PostgresInboxClient, clock: Clock, timeoutMs: number) {
    this.#client = client;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    client.on("error", this.#onError);
    client.on("notice", this.#onNotice);
  }

  /** The start time of the server; known once the row was claimed. */
  get serverStarted(): string {
    return this.#started;
  }

  /** The id of the transaction, if {@link hasXid}. */
  get xid(): string {
    return this.#xid;
  }

  /** Whether the row was claimed, and the server said by which transaction. */
  get hasXid(): boolean {
    return /^\d+$/.test(this.#xid);
  }

  /** Whether its end is known. */
  get isOver(): boolean {
    return this.#ended;
  }

  /** Begins, and inserts the row. Waits for another transaction that holds it. */
  async claim(
    insert: string,
    { consumer, id }: InboxMessage,
    waitMs: number,
  ): Promise<"claimed" | "duplicate" | "busy"> {
    try {
      // 0 would mean no limit.
      const begin = `BEGIN; SELECT current_setting('lock_timeout') AS previous; SET LOCAL lock_timeout = ${waitMs + 1}`;
      const previous = firstRow<{ readonly previous: string }>(await this.#query(begin), 1)?.previous;
      const result = await this.#query(insert, [consumer, id, previous], waitMs + this.#timeoutMs);
      const opened = firstRow<Opened>(result);
      if (opened === undefined) return "duplicate";
      this.#xid = opened.xid;
      this.#started = opened.started;
      return "claimed";
    } catch (error) {
      if (ownStateOf(error) === LOCK_TIMEOUT) return "busy";
      if (!isRowRefusal(error)) throw inboxFailure("insert the row of a message", error);
      throw new MessagingError(
        "refused",
        "the inbox's Postgres refused the row of this message: look for your own constraint or trigger on the inbox's table; see the cause",
        { cause: error },
      );
    }
  }

  /**
   * Commits. Rejects with `refused` if nothing is kept, with `conflict` if the work ended the transaction, and with
   * `unconfirmed` if the connection ended before the answer.
   */
  async commit(): Promise<void> {
    const before = this.#connectionError;
    let results: unknown;
    try {
      // The SELECT fails after a failed statement. A COMMIT alone would roll back and report success.
      results = await this.#query(`${OWN_XID}; COMMIT`);
    } catch (error) {
      if (isRefusal(error)) throw this.#tooLong(error) ?? notKept(error);
      // A connection that was broken before never got the commit.
      if (before !== undefined) throw this.#tooLong(before) ?? notKept(before);
      throw new MessagingError(
        "unconfirmed",
        "the inbox's Postgres did not answer the commit, and may have kept what the handler wrote: the next copy of the message shows; see the cause",
        { cause: error },
      );
    }
    if (firstRow<Opened>(results, 0)?.xid === this.#xid) this.#end(false);
    else throw this.#endedByHandler();
  }

  /**
   * Rolls back. Resolves with whether the connection still answers; if not, the server rolls back. Rejects with `conflict`
   * if the work ended the transaction.
   */
  async rollback(cause?: unknown): Promise<boolean> {
    let isOther = false;
    try {
      if (this.hasXid) isOther = await this.#rolledBackOther();
      else await this.#query("ROLLBACK");
    } catch (error) {
      this.#connectionError ??= error;
      return false;
    }
    if (isOther || this.#notice === NO_TRANSACTION) throw this.#endedByHandler(cause);
    this.#end(false);
    return true;
  }

  /** Rolls back what is open. Resolves with whether that was another transaction than the inbox began, or its own was kept. */
  async #rolledBackOther(): Promise<boolean> {
    const rollback = `ROLLBACK; SELECT ${statusOf(this.#xid)}`;
    try {
      const results = await this.#query(`${OWN_XID}; ${rollback}`);
      return firstRow<Opened>(results, 0)?.xid !== this.#xid || isKept(firstRow<TransactionStatus>(results, 2));
    } catch (error) {
      // After a failed statement only ROLLBACK is taken.
      if (ownStateOf(error) !== FAILED_TRANSACTION) throw error;
      return isKept(firstRow<TransactionStatus>(await this.#query(rollback), 1));
    }
  }

  /** The error of the call, after the work threw and the connection ended. */
  failureOf(thrown: unknown): unknown {
    return this.#tooLong(thrown) ?? thrown;
  }

  /** Why the connection ended, by the server's last messages and the error of the work or the commit. */
  endOf(error: unknown): ConnectionEnd {
    // Only a server that goes down at once says this as a notice.
    if (this.#notice === CRASH_SHUTDOWN || this.#notice === ADMIN_SHUTDOWN) return "server";
    const states = [stateOf(error), stateOf(this.#connectionError)];
    if (states.includes(CRASH_SHUTDOWN)) return "server";
    return states.includes(ADMIN_SHUTDOWN) ? "terminated" : "unknown";
  }

  /** Closes the connection unless the transaction has ended. Then the server rolls back, and the handler can no longer use it. */
  close(): void {
    this.#end(true);
  }

  readonly #onError = (problem: { readonly code?: string | undefined }): void => {
    this.#connectionError ??= problem;
  };

  readonly #onNotice = (notice: { readonly code?: string | undefined }): void => {
    this.#notice = notice.code ?? "";
  };

  #query(text: string, values?: unknown[], timeoutMs = this.#timeoutMs): Promise<unknown> {
    return inTime("inbox's Postgres", this.#clock, timeoutMs, () => this.#client.query(text, values));
  }

  #tooLong(error: unknown): MessagingError | undefined {
    if (![stateOf(error), stateOf(this.#connectionError)].some((state) => TOO_LONG.includes(state))) return undefined;
    return new MessagingError(
      "refused",
      "the inbox's Postgres closed the handler's transaction, which took longer than the server allows, and kept nothing: make the handler faster, or raise idle_in_transaction_session_timeout or transaction_timeout",
      { cause: error },
    );
  }

  #endedByHandler(cause?: unknown): MessagingError {
    return new MessagingError(
      "conflict",
      "the handler ended the inbox's transaction: leave BEGIN, COMMIT and ROLLBACK to the inbox",
      { cause },
    );
  }

  #end(close: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#client.off("notice", this.#onNotice);
    // A late error without a listener would end the process.
    if (!close) this.#client.off("error", this.#onError);
    this.#client.release(close);
  }
}

function notKept(cause: unknown): MessagingError {
  return new MessagingError(
    "refused",
    "the inbox's Postgres did not commit what the handler wrote, and kept nothing: the handler ignored a failed statement or a lost connection, or a deferred constraint failed; see the cause",
    { cause },
  );
}

/** The first row of a result, or of one of several. */
function firstRow<Row>(result: unknown, index?: number): Row | undefined {
  const one = index === undefined ? result : (result as readonly unknown[])[index];
  return (one as { readonly rows: readonly Row[] }).rows[0];
}

/**
 * Whether the server answered and refused: then it keeps nothing of the transaction. Not so if it went down or closed the
 * connection (classes 08, 57P and 58), or the client got no answer.
 */
function isRefusal(error: unknown): boolean {
  const state = ownStateOf(error);
  return state !== "" && !/^(08|57P|58)/.test(state);
}

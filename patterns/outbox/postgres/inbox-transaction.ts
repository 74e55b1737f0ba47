import { type Clock, MessagingError } from "../../../core/index.ts";
import { isOfTheRow, serverCode, stateOf } from "../../../core/stores.ts";
import { within } from "../inbox.ts";
import type { InboxMessage } from "../inbox-store.ts";
import type { PostgresInboxClient } from "./inbox-table.ts";
import { inboxFailure, isRefusal } from "./inbox-table.ts";

/** Idle in transaction for too long, and a transaction that took too long: the server closed the connection. */
const TOO_LONG = ["25P03", "25P04"];
const NO_TRANSACTION = "25P01";
const LOCK_TIMEOUT = "55P03";
const ADMIN_SHUTDOWN = "57P01";
/** Another process of the server crashed, and the server ended all others. */
const CRASH_SHUTDOWN = "57P02";

interface Opened {
  readonly xid: string;
  readonly started: string;
}

/**
 * Why the connection of a transaction ended: `server` if the server said that it goes down for everybody, `terminated` if
 * it said that it ends this connection, which may be the handler's doing or part of a shutdown, `unknown` otherwise.
 */
export type ConnectionEnd = "server" | "terminated" | "unknown";

/** One transaction on a connection of its own, from its begin to its end. Whoever makes it has to end it. */
export class PostgresInboxTransaction {
  readonly #client: PostgresInboxClient;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #broken: unknown = undefined;
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

  /** When the server began to run, as it says itself; known once the row was claimed. */
  get serverStarted(): string {
    return this.#started;
  }

  /** Begins, and puts the row in, waiting for whoever holds it. */
  async claim(
    insert: string,
    { consumer, id }: InboxMessage,
    waitMs: number,
  ): Promise<"claimed" | "duplicate" | "busy"> {
    try {
      // 0 would be no limit.
      const begin = `BEGIN; SELECT current_setting('lock_timeout') AS standing; SET LOCAL lock_timeout = ${waitMs + 1}`;
      const standing = rowOf<{ readonly standing: string }>(await this.#ask(begin), 1)?.standing;
      const result = await this.#ask(insert, [consumer, id, standing], waitMs + this.#timeoutMs);
      const opened = rowOf<Opened>(result);
      if (opened === undefined) return "duplicate";
      this.#xid = opened.xid;
      this.#started = opened.started;
      return "claimed";
    } catch (error) {
      if (serverCode(error) === LOCK_TIMEOUT) return "busy";
      if (!isOfTheRow(error)) throw inboxFailure("take the row of a message", error);
      throw new MessagingError(
        "refused",
        "the inbox's Postgres refused the row of this message: look for a constraint or trigger of your own on the inbox's table; see the cause",
        { cause: error },
      );
    }
  }

  /**
   * Commits. Rejects with `refused` if nothing is kept, with `conflict` if the work ended the transaction by itself, and
   * with `unconfirmed` if the connection ended before the answer.
   */
  async commit(): Promise<void> {
    const before = this.#broken;
    let results: unknown;
    try {
      // The first statement fails where one failed before, of which a commit says nothing: it would roll back.
      results = await this.#ask("SELECT pg_current_xact_id_if_assigned()::text AS xid; COMMIT");
    } catch (error) {
      if (isRefusal(error)) throw this.#tooLong(error) ?? notKept(error);
      // What broke before was never asked to commit.
      if (before !== undefined) throw this.#tooLong(before) ?? notKept(before);
      throw new MessagingError(
        "unconfirmed",
        "the inbox's Postgres did not answer the commit, and what the handler wrote is kept or not: the next copy of the message finds out; see the cause",
        { cause: error },
      );
    }
    if (rowOf<Opened>(results, 0)?.xid === this.#xid) this.#end(false);
    else throw this.#wasEnded();
  }

  /**
   * Rolls back. Resolves with whether the connection still answers; where it does not, it is closed, and the server rolls
   * back by itself. Rejects with `conflict` if the work ended the transaction by itself.
   */
  async rollback(cause?: unknown): Promise<boolean> {
    try {
      await this.#ask("ROLLBACK");
    } catch (error) {
      this.#broken ??= error;
      return false;
    }
    if (this.#notice === NO_TRANSACTION) throw this.#wasEnded(cause);
    this.#end(false);
    return true;
  }

  /** What the call fails with where the work threw an error and the connection has ended. */
  failureOf(thrown: unknown): unknown {
    return this.#tooLong(thrown) ?? thrown;
  }

  /** Why the connection ended, by the last that was heard from the server. `error` is what the work or the commit threw. */
  endOf(error: unknown): ConnectionEnd {
    // As a notice it is only said by a server that goes down at once.
    if (this.#notice === CRASH_SHUTDOWN || this.#notice === ADMIN_SHUTDOWN) return "server";
    const states = [stateOf(error), stateOf(this.#broken)];
    if (states.includes(CRASH_SHUTDOWN)) return "server";
    return states.includes(ADMIN_SHUTDOWN) ? "terminated" : "unknown";
  }

  /** Closes the connection, unless the transaction has ended well: the server rolls back, and nobody can use it any more. */
  close(): void {
    this.#end(true);
  }

  readonly #onError = (problem: { readonly code?: string | undefined }): void => {
    this.#broken ??= problem;
  };

  readonly #onNotice = (notice: { readonly code?: string | undefined }): void => {
    this.#notice = notice.code ?? "";
  };

  #ask(text: string, values?: unknown[], timeoutMs = this.#timeoutMs): Promise<unknown> {
    const asked = this.#client.query(text, values);
    return within(this.#clock, timeoutMs, "the answer of the inbox's Postgres", asked);
  }

  #tooLong(error: unknown): MessagingError | undefined {
    if (![stateOf(error), stateOf(this.#broken)].some((state) => TOO_LONG.includes(state))) return undefined;
    return new MessagingError(
      "refused",
      "the inbox's Postgres closed the handler's transaction, which took longer than the server allows, and nothing is kept: make the handler faster, or raise idle_in_transaction_session_timeout or transaction_timeout",
      { cause: error },
    );
  }

  #wasEnded(cause?: unknown): MessagingError {
    return new MessagingError(
      "conflict",
      "the handler ended the inbox's transaction by itself: leave BEGIN, COMMIT and ROLLBACK to the inbox",
      { cause },
    );
  }

  #end(close: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#client.off("notice", this.#onNotice);
    // A connection that is being closed may still complain, to nobody else.
    if (!close) this.#client.off("error", this.#onError);
    this.#client.release(close);
  }
}

function notKept(cause: unknown): MessagingError {
  return new MessagingError(
    "refused",
    "the inbox's Postgres did not commit what the handler wrote, and nothing is kept: a statement of it failed or ended the connection and it went on, or a check that was deferred failed; see the cause",
    { cause },
  );
}

function rowOf<Row>(result: unknown, index?: number): Row | undefined {
  const one = index === undefined ? result : (result as readonly unknown[])[index];
  return (one as { readonly rows: readonly Row[] }).rows[0];
}

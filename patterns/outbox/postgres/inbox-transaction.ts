import { type Clock, MessagingError } from "../../../core/index.ts";
import { serverCode } from "../../../core/store-failure.ts";
import type { InboxMessage } from "../inbox-store.ts";
import { within } from "../inbox-waiting.ts";
import type { PostgresInboxClient } from "./inbox-database.ts";
import { inboxFailure, isRefusal } from "./inbox-failure.ts";

/** Idle in transaction for too long, and a transaction that took too long: the server closed the connection. */
const TOO_LONG = ["25P03", "25P04"];
const NO_TRANSACTION = "25P01";
const LOCK_TIMEOUT = "55P03";

interface Opened {
  readonly xid: string;
}

/** One transaction on a connection of its own, from its begin to its end. Whoever makes it has to end it. */
export class PostgresInboxTransaction {
  readonly #client: PostgresInboxClient;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #broken: unknown = undefined;
  #notice = "";
  #ended = false;
  #xid = "";

  constructor(client: PostgresInboxClient, clock: Clock, timeoutMs: number) {
    this.#client = client;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    client.on("error", this.#onError);
    client.on("notice", this.#onNotice);
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
      return "claimed";
    } catch (error) {
      if (serverCode(error) === LOCK_TIMEOUT) return "busy";
      throw inboxFailure("take the row of a message", error);
    }
  }

  /** Commits; rejects as `InboxStore.handle` does. */
  async commit(): Promise<void> {
    let results: unknown;
    try {
      // The first statement fails where one failed before, of which a commit says nothing: it would roll back.
      results = await this.#ask("SELECT pg_current_xact_id_if_assigned()::text AS xid; COMMIT");
    } catch (error) {
      if (!isRefusal(error)) throw this.#brokenBy("commit", error);
      throw new MessagingError(
        "rejected",
        "the inbox's Postgres refused to commit what the handler wrote, and nothing is kept: a statement of it failed and it went on, or a check that was deferred; see the cause",
        { cause: error },
      );
    }
    if (rowOf<Opened>(results, 0)?.xid === this.#xid) this.#end(false);
    else throw this.#wasEnded();
  }

  /** Rolls back. Rejects if that cannot be told; then the connection is closed, which rolls back as well. */
  async rollback(cause?: unknown): Promise<void> {
    try {
      await this.#ask("ROLLBACK");
    } catch (error) {
      throw this.#brokenBy("roll back", cause ?? error);
    }
    if (this.#notice === NO_TRANSACTION) throw this.#wasEnded(cause);
    this.#end(false);
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

  #brokenBy(action: string, error: unknown): MessagingError {
    if (!TOO_LONG.includes(serverCode(this.#broken))) return inboxFailure(action, error);
    return new MessagingError(
      "rejected",
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

function rowOf<Row>(result: unknown, index?: number): Row | undefined {
  const one = index === undefined ? result : (result as readonly unknown[])[index];
  return (one as { readonly rows: readonly Row[] }).rows[0];
}

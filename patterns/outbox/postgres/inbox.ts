import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, MessagingError, systemClock } from "../../../core/index.ts";
import { wholeNumber } from "../../../sql/postgres.ts";
import { unlessAborted, within } from "../inbox.ts";
import type { InboxEnd, InboxHandleOptions, InboxMessage, InboxStore } from "../inbox-store.ts";
import {
  type CallbackPool,
  type InboxTables,
  inboxFailure,
  inboxTables,
  inboxVersions,
  isDown,
  type PostgresInboxClient,
  type PostgresInboxPool,
  type PostgresInboxTableOptions,
} from "./inbox-table.ts";
import { PostgresInboxTransaction } from "./inbox-transaction.ts";

/** The options of {@link postgresInbox}. */
export interface PostgresInboxOptions extends PostgresInboxTableOptions {
  /** Milliseconds after which a question to the server, or to the pool, counts as not answered. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An inbox in a Postgres database. `Client` is what handlers write with. */
export interface PostgresInbox<Client> extends InboxStore<Client> {
  /**
   * Makes the table, or brings an older one up to date, unless it is so already; also if many do at once. Only where there
   * is something to do it needs the right to create in the schema. Rejects like the other calls, and with `not-found` if
   * there is no such schema.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const SERVER_STARTED = "extract(epoch FROM pg_postmaster_start_time())::text AS started";

/**
 * An inbox in a Postgres database, for `transactional`. A handler gets a connection of the pool with the transaction open.
 *
 * Each message that is being handled takes a connection, one that waits for another copy too: give the pool at least as
 * many as the consumers' concurrency together, and other work a pool of its own. The inbox never ends the pool.
 *
 * The transaction is READ COMMITTED unless the connection's default is another: on a higher level a copy that comes at
 * the same time is postponed instead of known at once. Throws `invalid` for wrong options.
 */
export function postgresInbox<Client extends PostgresInboxClient>(
  pool: CallbackPool<Client>,
  options?: PostgresInboxOptions,
): PostgresInbox<Client>;
export function postgresInbox<Client extends PostgresInboxClient>(
  pool: PostgresInboxPool<Client>,
  options?: PostgresInboxOptions,
): PostgresInbox<Client>;
export function postgresInbox<Client extends PostgresInboxClient>(
  pool: PostgresInboxPool<Client>,
  options: PostgresInboxOptions = {},
): PostgresInbox<Client> {
  checkOptions("postgresInbox", options, ["table", "schema", "timeoutMs"]);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger("postgresInbox { timeoutMs }", timeoutMs, 1, 2 ** 31 - 1);
  return new PostgresInboxStore(pool, inboxTables("postgresInbox", options), timeoutMs);
}

class PostgresInboxStore<Client extends PostgresInboxClient> implements PostgresInbox<Client> {
  readonly name = "postgres";
  readonly #pool: PostgresInboxPool<Client>;
  readonly #tables: InboxTables;
  readonly #insert: string;
  readonly #remove: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();

  constructor(pool: PostgresInboxPool<Client>, tables: InboxTables, timeoutMs: number) {
    this.#pool = pool;
    this.#tables = tables;
    const { inbox: table } = tables;
    this.#timeoutMs = timeoutMs;
    // What is returned is computed when the waiting is over: the handler's own waits are its own affair.
    this.#insert = `
INSERT INTO ${table} (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
RETURNING pg_current_xact_id()::text AS xid, ${SERVER_STARTED}, set_config('lock_timeout', $3, true)`;
    // An array, so that the choice is made once. Rows that another cleaner holds are left to it.
    this.#remove = `
WITH removed AS (
  DELETE FROM ${table} WHERE consumer = $1 AND message_id = ANY (ARRAY(
    SELECT message_id FROM ${table}
    WHERE consumer = $1 AND handled_at < now() - $2::float8 * interval '1 millisecond'
    ORDER BY handled_at LIMIT $3 FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM removed`;
  }

  async migrate(): Promise<void> {
    await this.#ask("make the table", inboxVersions(this.#tables).migration());
  }

  async handle(
    message: InboxMessage,
    work: (transaction: Client) => Promise<boolean>,
    { waitMs, signal }: InboxHandleOptions,
  ): Promise<InboxEnd> {
    signal.throwIfAborted();
    const client = await this.#connect();
    const transaction = new PostgresInboxTransaction(client, this.#clock, this.#timeoutMs);
    try {
      const claim = await unlessAborted(signal, transaction.claim(this.#insert, message, waitMs));
      if (claim !== "claimed") {
        await transaction.rollback();
        return claim;
      }
      if (await unlessAborted(signal, this.#worked(transaction, client, work, signal))) {
        await this.#commit(transaction);
        return "committed";
      }
      // Where the connection has ended the server rolls back by itself.
      await transaction.rollback();
      return "rolled-back";
    } finally {
      transaction.close();
    }
  }

  async clean(consumer: string, olderThanMs: number, limit: number): Promise<number> {
    const result = await this.#ask("clean up", this.#remove, [consumer, olderThanMs, limit]);
    return wholeNumber((result as { readonly rows: readonly { readonly removed: unknown }[] }).rows[0]?.removed);
  }

  /** What the work throws goes on after the rollback, unless the server went down meanwhile. */
  async #worked(
    transaction: PostgresInboxTransaction,
    client: Client,
    work: (transaction: Client) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await work(client);
    } catch (error) {
      if (signal.aborted || (await transaction.rollback(error))) throw error;
      throw (await this.#wentDown(transaction, error)) ?? transaction.failureOf(error);
    }
  }

  async #commit(transaction: PostgresInboxTransaction): Promise<void> {
    try {
      await transaction.commit();
    } catch (error) {
      throw (await this.#wentDown(transaction, error)) ?? error;
    }
  }

  /**
   * Looks for the proof that it was the server that ended a connection, for everybody, and not what the handler did: the
   * server says so, or it says that it ends this connection and then takes none, or has begun to run anew.
   */
  async #wentDown(transaction: PostgresInboxTransaction, cause: unknown): Promise<MessagingError | undefined> {
    const end = transaction.endOf(cause);
    if (end === "unknown" || (end === "terminated" && !(await this.#isDown(transaction)))) return undefined;
    return new MessagingError(
      "unreachable",
      "the inbox's Postgres was stopped or restarted while the handler ran: the message is handled again unless its commit was kept; see the cause",
      { cause },
    );
  }

  async #isDown(transaction: PostgresInboxTransaction): Promise<boolean> {
    // Its place in the pool is free for the question.
    transaction.close();
    try {
      const result = await this.#ask("say since when it runs", `SELECT ${SERVER_STARTED}`);
      return (
        (result as { readonly rows: readonly { readonly started: string }[] }).rows[0]?.started !==
        transaction.serverStarted
      );
    } catch (error) {
      return isDown(error);
    }
  }

  async #connect(): Promise<Client> {
    const late = (client: Client): void => client.release();
    try {
      return await within(this.#clock, this.#timeoutMs, "a connection of the inbox's pool", this.#pool.connect(), late);
    } catch (error) {
      throw inboxFailure("give a connection", error);
    }
  }

  async #ask(action: string, text: string, values?: unknown[]): Promise<unknown> {
    const client = await this.#connect();
    const ignore = (): void => {};
    client.on("error", ignore);
    try {
      const result = await within(this.#clock, this.#timeoutMs, "the inbox's Postgres", client.query(text, values));
      client.off("error", ignore);
      client.release();
      return result;
    } catch (error) {
      client.release(true);
      throw inboxFailure(action, error);
    }
  }
}

import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, systemClock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { inTime } from "../../../core/stores.ts";
import { stateOf, wholeNumber } from "../../../sql/postgres.ts";
import { PostgresSchema, quotedNames } from "../../../sql/schema.ts";
import { unlessAborted } from "../inbox.ts";
import {
  type InboxEnd,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxStore,
  UnsettledMessages,
} from "../inbox-store.ts";
import {
  inboxFailure,
  type PostgresInboxClient,
  PostgresInboxTransaction,
  statusOf,
  type TransactionStatus,
} from "./inbox-transaction.ts";

/** What the inbox needs of a pool of connections. The `Pool` of `pg` fits. */
export interface PostgresInboxPool<Client extends PostgresInboxClient> {
  /** Lends a connection. */
  connect(): Promise<Client>;
}

/** A pool that also lends connections to callbacks, as that of `pg`. TypeScript infers the type of a connection from it. */
export interface CallbackPool<Client extends PostgresInboxClient> extends PostgresInboxPool<Client> {
  connect(): Promise<Client>;
  connect(callback: (error: never, client: Client | undefined, done: never) => void): void;
}

/** Where the rows of handled messages are stored. */
export interface PostgresInboxTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** The schema's name, of the same form, 63 at most. Default: by the connection's `search_path`. */
  readonly schema?: string;
}

/** The options of {@link postgresInbox}. */
export interface PostgresInboxOptions extends PostgresInboxTableOptions {
  /** Milliseconds that the server, or the pool, may take to answer. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An inbox in a Postgres database. `Client` is the connection that handlers write with. */
export interface PostgresInbox<Client> extends InboxStore<Client> {
  /**
   * Creates the table, or brings an older one up to date. Concurrent calls are safe. It needs the right to create in the
   * schema only if something changes. Rejects like the other calls, and with `not-found` for a missing schema.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const SERVER_STARTED = "extract(epoch FROM pg_postmaster_start_time())::text AS started";

/**
 * An inbox in a Postgres database, for `transactional`. A handler gets a connection of the pool with an open transaction.
 *
 * Each message in progress uses a connection, also while it waits for another copy. Give the pool at least as many
 * connections as all consumers' concurrency, and other work its own pool. The inbox never ends the pool.
 *
 * The transaction is READ COMMITTED unless the connection's default is another. On a higher level a concurrent copy is
 * postponed, and not recognised at once. Throws `invalid` for wrong options.
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

/** The options of {@link postgresInboxSql}. */
export interface PostgresInboxSqlOptions extends PostgresInboxTableOptions {
  /** The version that the table has now. Default 0, for no table. */
  readonly from?: number;
}

/**
 * The statements that create the table, for your own migration tool. Run each once, in order, with a role that may create in
 * the schema. The inbox's `migrate` runs the same, and both note the versions. A released version never changes; the change
 * log announces new ones. Throws `invalid` for wrong options.
 */
export function postgresInboxSql(options: PostgresInboxSqlOptions = {}): readonly string[] {
  checkOptions("postgresInboxSql", options, ["table", "schema", "from"]);
  return inboxSchema(inboxTables("postgresInboxSql", options)).from("postgresInboxSql", options.from);
}

/** The quoted names of the tables. */
interface InboxTables {
  readonly inbox: string;
  readonly versions: string;
}

/** Checks and quotes the names. Throws `invalid`. */
function inboxTables(where: string, { schema, table = "anybroker_inbox" }: PostgresInboxTableOptions): InboxTables {
  const named = quotedNames(where, schema, table);
  return { inbox: named(""), versions: named("_versions") };
}

function inboxSchema({ inbox, versions }: InboxTables): PostgresSchema {
  const version1 = [
    `CREATE TABLE ${inbox} (
  consumer text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, message_id)
)`,
    `CREATE INDEX ON ${inbox} (consumer, handled_at)`,
  ];
  return new PostgresSchema(versions, [version1]);
}

class PostgresInboxStore<Client extends PostgresInboxClient> implements PostgresInbox<Client> {
  readonly name = "postgres";
  readonly #pool: PostgresInboxPool<Client>;
  readonly #tables: InboxTables;
  readonly #insert: string;
  readonly #remove: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();
  readonly #unsettled = new UnsettledMessages<string>();

  constructor(pool: PostgresInboxPool<Client>, tables: InboxTables, timeoutMs: number) {
    this.#pool = pool;
    this.#tables = tables;
    const { inbox: table } = tables;
    this.#timeoutMs = timeoutMs;
    // RETURNING runs after the wait for the row, and resets the lock timeout for the handler's own statements.
    this.#insert = `
INSERT INTO ${table} (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
RETURNING pg_current_xact_id()::text AS xid, ${SERVER_STARTED}, set_config('lock_timeout', $3, true)`;
    // The array makes Postgres choose the rows once. Rows that another cleaner locked are skipped.
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
    await this.#query("create the table", inboxSchema(this.#tables).migration());
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
        return claim === "duplicate" && (await this.#wasEndedEarly(message)) ? "ended-early" : claim;
      }
      this.#unsettled.take(message);
      if (await this.#settled(message, transaction, this.#work(transaction, client, work, signal), signal)) {
        await this.#commit(transaction);
        return "committed";
      }
      // If the connection has ended, the server rolls back.
      await transaction.rollback();
      return "rolled-back";
    } finally {
      transaction.close();
    }
  }

  async clean(consumer: string, olderThanMs: number, limit: number): Promise<number> {
    const [row] = await this.#query("clean up", this.#remove, [consumer, olderThanMs, limit]);
    return wholeNumber((row as { readonly removed: unknown } | undefined)?.removed);
  }

  /** The work's result. Keeps the message in mind if it is aborted, or if its failure leaves open what was kept. */
  async #settled(
    message: InboxMessage,
    transaction: PostgresInboxTransaction,
    work: Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await unlessAborted(signal, work);
    } catch (error) {
      const isOpen = signal.aborted || !(transaction.isOver || isMessagingError(error, "conflict"));
      if (isOpen && transaction.hasXid) this.#unsettled.add(message, transaction.xid);
      throw error;
    }
  }

  /** Whether the row of a message was kept by work that did not come to its end. */
  async #wasEndedEarly(message: InboxMessage): Promise<boolean> {
    const xid = this.#unsettled.take(message);
    if (xid === undefined) return false;
    try {
      const [found] = await this.#query("read the state of a transaction", `SELECT ${statusOf(xid)}`);
      return (found as TransactionStatus | undefined)?.status === "committed";
    } catch (error) {
      this.#unsettled.add(message, xid);
      throw error;
    }
  }

  /** If the work throws, rolls back and passes the error on, unless the server went down meanwhile. */
  async #work(
    transaction: PostgresInboxTransaction,
    client: Client,
    work: (transaction: Client) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await work(client);
    } catch (error) {
      if (signal.aborted || (await transaction.rollback(error))) throw error;
      throw (await this.#serverDown(transaction, error)) ?? transaction.failureOf(error);
    }
  }

  async #commit(transaction: PostgresInboxTransaction): Promise<void> {
    try {
      await transaction.commit();
    } catch (error) {
      throw (await this.#serverDown(transaction, error)) ?? error;
    }
  }

  /**
   * The error if it is proven that the server went down, and the handler did not end the connection. Proof: the server said
   * so, or it said that it ends this connection and then takes no others, or has restarted.
   */
  async #serverDown(transaction: PostgresInboxTransaction, cause: unknown): Promise<MessagingError | undefined> {
    const end = transaction.endOf(cause);
    if (end === "unknown" || (end === "terminated" && !(await this.#isDownOrRestarted(transaction)))) return undefined;
    return new MessagingError(
      "unreachable",
      "the inbox's Postgres was stopped or restarted while the handler ran: the message is handled again unless its commit was kept; see the cause",
      { cause },
    );
  }

  async #isDownOrRestarted(transaction: PostgresInboxTransaction): Promise<boolean> {
    // Frees its place in the pool for the query.
    transaction.close();
    try {
      const [row] = await this.#query("read its start time", `SELECT ${SERVER_STARTED}`);
      return (row as { readonly started: string } | undefined)?.started !== transaction.serverStarted;
    } catch (error) {
      return isDown(error);
    }
  }

  async #connect(): Promise<Client> {
    const late = (client: Client): void => client.release();
    try {
      return await inTime("inbox's pool", this.#clock, this.#timeoutMs, () => this.#pool.connect(), late);
    } catch (error) {
      throw inboxFailure("give a connection", error);
    }
  }

  async #query(action: string, text: string, values?: unknown[]): Promise<readonly unknown[]> {
    const client = await this.#connect();
    const ignore = (): void => {};
    client.on("error", ignore);
    try {
      const call = () => client.query(text, values);
      const result = await inTime("inbox's Postgres", this.#clock, this.#timeoutMs, call);
      client.off("error", ignore);
      client.release();
      return (result as { readonly rows?: readonly unknown[] } | undefined)?.rows ?? [];
    } catch (error) {
      client.release(true);
      throw inboxFailure(action, error);
    }
  }
}

/**
 * Whether a failed query shows that the server takes no connections: it said so, or the connection was refused or closed. A
 * timeout shows nothing: a pool without a free connection causes it too.
 */
function isDown(error: unknown): boolean {
  const state = stateOf(error);
  if (state !== "") return state.startsWith("57P");
  const cause = isMessagingError(error) && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && !isMessagingError(cause) && !/timeout/i.test(cause.message);
}

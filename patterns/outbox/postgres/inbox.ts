import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, systemClock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { inTime } from "../../../core/stores.ts";
import { isRowRefusal, ownStateOf, postgresFailure, stateOf, wholeNumber } from "../../../sql/postgres.ts";
import { PostgresSchema, quotedNames } from "../../../sql/schema.ts";
import { unlessAborted } from "../inbox.ts";
import {
  type InboxEnd,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxStore,
  UnsettledMessages,
} from "../inbox-store.ts";

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

  /** Whether the row of a message was kept by a handler that did not finish. */
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
function inboxFailure(action: string, error: unknown): MessagingError {
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
interface TransactionStatus {
  readonly status: string | null;
}

/** Asks for the {@link TransactionStatus} of a transaction, given its checked id. */
function statusOf(xid: string): string {
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
class PostgresInboxTransaction {
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

import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { MessagingError, systemClock } from "../../../core/index.ts";
import { checkTableName } from "../../../sql/tables.ts";
import { unlessAborted } from "../inbox.ts";
import type { InboxEnd, InboxHandleOptions, InboxMessage, InboxStore } from "../inbox-store.ts";
import type { SqliteDatabase } from "./connection.ts";
import { isBreakdown, isConstraint, SqliteConnection, sqliteFailure } from "./connection.ts";
import { DEFAULT_INBOX_TABLE, INBOX_VERSIONS, migrate } from "./schema.ts";

/** The options of {@link sqliteInbox}. */
export interface SqliteInboxOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** Milliseconds that cleaning and migrating wait for the locks of others. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An inbox in a SQLite database. `Database` is what handlers write with. */
export interface SqliteInbox<Database> extends InboxStore<Database> {
  /** Makes the table, or brings an older one up to date, unless it is so already; also if many processes do at once. */
  migrate(): Promise<void>;
  /** Closes the connection, after the transactions that run. A second call does nothing. */
  close(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;
/** SQLite's own time of day, in milliseconds. */
const NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/**
 * An inbox in a SQLite database, for `transactional`, for the processes of one machine. `open` opens a connection to it,
 * in WAL mode, with whatever settings handlers need: each of them gets it with the transaction open.
 *
 * One transaction at a time writes to a SQLite database: handlers go one after another, and a message whose turn does not
 * come within `waitMs` is postponed. The connection is opened when it is needed, is the inbox's own, and is closed and
 * opened anew when a handler was aborted. Its `timeout` is set to 0: the inbox waits for the locks of others itself,
 * without standing in the way of the event loop. Throws `invalid` for wrong options.
 */
export function sqliteInbox<Database extends SqliteDatabase>(
  open: () => Database,
  options: SqliteInboxOptions = {},
): SqliteInbox<Database> {
  checkOptions("sqliteInbox", options, ["table", "timeoutMs"]);
  if (typeof open !== "function") {
    throw new MessagingError("invalid", "sqliteInbox takes a function that opens a connection, and options");
  }
  const { table = DEFAULT_INBOX_TABLE, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkTableName("sqliteInbox { table }", table);
  checkInteger("sqliteInbox { timeoutMs }", timeoutMs, 1, 2 ** 31 - 1);
  return new SqliteInboxStore(open, table, timeoutMs);
}

class SqliteInboxStore<Database extends SqliteDatabase> implements SqliteInbox<Database> {
  readonly name = "sqlite";
  readonly #connection: SqliteConnection<Database>;
  readonly #table: string;
  readonly #timeoutMs: number;

  constructor(open: () => Database, table: string, timeoutMs: number) {
    this.#connection = new SqliteConnection(open, systemClock());
    this.#table = table;
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await migrate(this.#connection, this.#timeoutMs, this.#table, INBOX_VERSIONS);
  }

  async handle(
    message: InboxMessage,
    work: (transaction: Database) => Promise<boolean>,
    { waitMs, signal }: InboxHandleOptions,
  ): Promise<InboxEnd> {
    signal.throwIfAborted();
    const begun = (database: Database): Promise<InboxEnd> => this.#begun(database, message, work, signal);
    const end = await this.#connection.hold("begin a transaction", waitMs, begun, signal);
    if (end !== undefined) return end;
    signal.throwIfAborted();
    return "busy";
  }

  async clean(consumer: string, olderThanMs: number, limit: number): Promise<number> {
    return this.#connection.write("clean up", this.#timeoutMs, (database) => {
      const remove = database.prepare(`
        DELETE FROM "${this.#table}" WHERE (consumer, message_id) IN (
          SELECT consumer, message_id FROM "${this.#table}" WHERE consumer = ? AND handled_at < ${NOW} - ?
          ORDER BY handled_at LIMIT ?)`);
      return Number(remove.run(consumer, olderThanMs, limit).changes);
    });
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #begun(
    database: Database,
    message: InboxMessage,
    work: (transaction: Database) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<InboxEnd> {
    let isOver = false;
    try {
      const isNew = this.#insert(database, message);
      const wanted = isNew && (await unlessAborted(signal, this.#worked(database, work, signal)));
      if (wanted) this.#commit(database);
      else this.#rollback(database);
      isOver = !isClosed(database) && !database.isTransaction;
      if (!isNew) return "duplicate";
      return wanted ? "committed" : "rolled-back";
    } finally {
      // Whoever still holds it is not to get into the next transaction.
      if (!isOver || signal.aborted) this.#connection.discard();
    }
  }

  #insert(database: Database, { consumer, id }: InboxMessage): boolean {
    try {
      const insert = database.prepare(
        `INSERT INTO "${this.#table}" (consumer, message_id, handled_at) VALUES (?, ?, ${NOW}) ON CONFLICT DO NOTHING`,
      );
      return Number(insert.run(consumer, id).changes) > 0;
    } catch (error) {
      if (!isConstraint(error)) throw sqliteFailure("take the row of a message", error);
      throw new MessagingError(
        "refused",
        "the SQLite database refused the row of this message: look for a constraint or trigger of your own on the inbox's table; see the cause",
        { cause: error },
      );
    }
  }

  /** What the work throws goes on after the rollback. */
  async #worked(
    database: Database,
    work: (transaction: Database) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await work(database);
    } catch (error) {
      if (!signal.aborted) this.#rollback(database, error);
      throw error;
    }
  }

  #commit(database: Database): void {
    if (isClosed(database)) throw notKept("the handler closed its connection", undefined);
    if (!inTransaction(database)) throw ended();
    try {
      database.exec("COMMIT");
    } catch (error) {
      if (isConstraint(error)) throw notKept("a constraint that was deferred fails; see the cause", error);
      throw new MessagingError(
        "unconfirmed",
        "the SQLite database failed to commit what the handler wrote, and it is kept or not: the next copy of the message finds out; see the cause",
        { cause: error },
      );
    }
  }

  /** Where the connection is closed, or fails to roll back and is closed then, nothing is kept either. */
  #rollback(database: Database, cause?: unknown): void {
    if (isClosed(database)) return;
    if (!inTransaction(database)) {
      // Done by SQLite itself, at a failure or by ON CONFLICT ROLLBACK.
      if (causes(cause).some((one) => isBreakdown(one) || isConstraint(one))) return;
      throw ended(cause);
    }
    try {
      database.exec("ROLLBACK");
    } catch {
      this.#connection.discard();
    }
  }
}

function notKept(why: string, cause: unknown): MessagingError {
  const what = "the SQLite database did not commit what the handler wrote, and nothing is kept";
  return new MessagingError("refused", `${what}: ${why}`, { cause });
}

/** Of a closed connection `node:sqlite` does not say whether a transaction is open. */
function isClosed(database: SqliteDatabase): boolean {
  try {
    return database.isTransaction === undefined;
  } catch {
    return true;
  }
}

function inTransaction(database: SqliteDatabase): boolean {
  return !isClosed(database) && database.isTransaction;
}

/** An error with its causes. */
function causes(error: unknown): readonly unknown[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : [error];
}

function ended(cause?: unknown): MessagingError {
  return new MessagingError(
    "conflict",
    "the inbox's transaction was ended before its time, and what the handler wrote then may be kept: leave BEGIN, COMMIT and ROLLBACK to the inbox, and do not pass over errors by which SQLite rolls back itself, such as a full disk",
    { cause },
  );
}

import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/errors.ts";
import { checkTableName } from "../../../sql/schema.ts";
import {
  isBreakdown,
  isConstraint,
  SQLITE_NOW as NOW,
  type OwnedSqliteDatabase,
  sqliteFailure,
  sqliteRefusal,
} from "../../../sql/sqlite.ts";
import { SqliteConnection } from "../../../sql/sqlite-connection.ts";
import { unlessAborted } from "../inbox.ts";
import {
  type InboxEnd,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxStore,
  UnsettledMessages,
} from "../inbox-store.ts";
import { DEFAULT_INBOX_TABLE, inboxSchema } from "./schema.ts";

/** The options of {@link sqliteInbox}. */
export interface SqliteInboxOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** Milliseconds that cleaning and migrating wait for a lock. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An inbox in a SQLite database. `Database` is the connection that handlers write with. */
export interface SqliteInbox<Database> extends InboxStore<Database>, AsyncDisposable {
  /** Creates the table, or brings an older one up to date. Concurrent calls are safe. */
  migrate(): Promise<void>;
  /** Closes the connection, after the running transactions. A second call does nothing. */
  close(): Promise<void>;
}

/** Its name in messages. */
const STORE = "inbox";
const DEFAULT_TIMEOUT_MS = 5_000;
/** It ends with the transaction that set it, so its absence shows another transaction. */
const SAVEPOINT = "anybroker_inbox";

/**
 * An inbox in a SQLite database, for `transactional` and the processes of one machine. `open` opens a connection in WAL
 * mode, with the settings that handlers need. Handlers get it with an open transaction.
 *
 * A SQLite database has one writer at a time. Handlers run one after another, and a message that waits longer than `waitMs`
 * is postponed. The inbox opens the connection on demand, and replaces it after a handler was aborted. It sets `timeout` to
 * 0 and waits for locks itself, without blocking the event loop. Throws `invalid` for wrong options.
 */
export function sqliteInbox<Database extends OwnedSqliteDatabase>(
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

class SqliteInboxStore<Database extends OwnedSqliteDatabase> implements SqliteInbox<Database> {
  readonly name = "sqlite";
  readonly #connection: SqliteConnection<Database>;
  readonly #table: string;
  readonly #timeoutMs: number;
  readonly #unsettled = new UnsettledMessages<true>();

  constructor(open: () => Database, table: string, timeoutMs: number) {
    this.#connection = new SqliteConnection(STORE, open);
    this.#table = table;
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await inboxSchema().migrate(this.#connection, this.#timeoutMs, this.#table);
  }

  async handle(
    message: InboxMessage,
    work: (transaction: Database) => Promise<boolean>,
    { waitMs, signal }: InboxHandleOptions,
  ): Promise<InboxEnd> {
    signal.throwIfAborted();
    const run = (database: Database): Promise<InboxEnd> => this.#handle(database, message, work, signal);
    const end = await this.#connection.transaction("begin a transaction", waitMs, run, signal);
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

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #handle(
    database: Database,
    message: InboxMessage,
    work: (transaction: Database) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<InboxEnd> {
    let isOver = false;
    try {
      const isNew = this.#insert(database, message);
      const wasEnded = this.#unsettled.take(message) !== undefined;
      const wanted = isNew && (await unlessAborted(signal, this.#work(database, work, signal)));
      if (wanted) this.#commit(database);
      else this.#rollback(database, isNew);
      isOver = !isClosed(database) && !database.isTransaction;
      if (!isNew) return wasEnded ? "ended-early" : "duplicate";
      return wanted ? "committed" : "rolled-back";
    } catch (error) {
      // What the handler committed stays, and the next copy of the message finds its row.
      if (signal.aborted && !isClosed(database) && !isInboxTransaction(database)) this.#unsettled.add(message, true);
      throw error;
    } finally {
      // A handler that still has the connection must not write into the next transaction.
      if (!isOver || signal.aborted) this.#connection.discard();
    }
  }

  #insert(database: Database, { consumer, id }: InboxMessage): boolean {
    try {
      const insert = database.prepare(
        `INSERT INTO "${this.#table}" (consumer, message_id, handled_at) VALUES (?, ?, ${NOW}) ON CONFLICT DO NOTHING`,
      );
      const isNew = Number(insert.run(consumer, id).changes) > 0;
      if (isNew) database.exec(`SAVEPOINT ${SAVEPOINT}`);
      return isNew;
    } catch (error) {
      if (isConstraint(error)) throw sqliteRefusal(STORE, error);
      throw sqliteFailure(STORE, "insert the row of a message", error);
    }
  }

  /** Rolls back if the work throws, and passes the error on. */
  async #work(
    database: Database,
    work: (transaction: Database) => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await work(database);
    } catch (error) {
      if (!signal.aborted) this.#rollback(database, true, error);
      throw error;
    }
  }

  #commit(database: Database): void {
    if (isClosed(database)) throw notKept("the handler closed its connection", undefined);
    if (!isInboxTransaction(database)) {
      if (inTransaction(database)) database.exec("ROLLBACK");
      throw endedEarly();
    }
    try {
      database.exec("COMMIT");
    } catch (error) {
      if (isConstraint(error)) throw notKept("a deferred constraint failed; see the cause", error);
      throw new MessagingError(
        "unconfirmed",
        "the inbox's SQLite database failed to commit what the handler wrote, and may have kept it: the next copy of the message shows; see the cause",
        { cause: error },
      );
    }
  }

  /** Rolls back. A closed connection has rolled back, and one that cannot is closed. */
  #rollback(database: Database, isNew: boolean, cause?: unknown): void {
    if (isClosed(database)) return;
    if (!inTransaction(database)) {
      // SQLite rolled back by itself, at a failure or by ON CONFLICT ROLLBACK.
      if (causes(cause).some((one) => isBreakdown(one) || isConstraint(one))) return;
      throw endedEarly(cause);
    }
    const isOther = isNew && !isInboxTransaction(database);
    try {
      database.exec("ROLLBACK");
    } catch {
      this.#connection.discard();
    }
    if (isOther) throw endedEarly(cause);
  }
}

/** Whether the open transaction is the one that the inbox began. Takes back nothing of it. */
function isInboxTransaction(database: OwnedSqliteDatabase): boolean {
  if (!inTransaction(database)) return false;
  try {
    database.exec(`RELEASE ${SAVEPOINT}`);
    return true;
  } catch (error) {
    return !(error instanceof Error && error.message.includes("no such savepoint"));
  }
}

/** On a closed connection, `isTransaction` of `node:sqlite` throws or is undefined. */
function isClosed(database: OwnedSqliteDatabase): boolean {
  try {
    return database.isTransaction === undefined;
  } catch {
    return true;
  }
}

function inTransaction(database: OwnedSqliteDatabase): boolean {
  return !isClosed(database) && database.isTransaction;
}

/** An error with its causes. */
function causes(error: unknown): readonly unknown[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : [error];
}

function notKept(why: string, cause: unknown): MessagingError {
  const what = "the inbox's SQLite database did not commit what the handler wrote, and kept nothing";
  return new MessagingError("refused", `${what}: ${why}`, { cause });
}

function endedEarly(cause?: unknown): MessagingError {
  return new MessagingError(
    "conflict",
    "the inbox's transaction ended before the handler, and later writes may be kept: leave BEGIN, COMMIT and ROLLBACK to the inbox, and do not ignore errors after which SQLite rolls back, such as a full disk",
    { cause },
  );
}

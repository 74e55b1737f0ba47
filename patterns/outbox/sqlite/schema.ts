import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/index.ts";
import { checkTableName } from "../../../sql/tables.ts";
import type { SqliteConnection, SqliteDatabase } from "./connection.ts";

/** What a row is doing. Rows that are due stand apart from those that are not, so that a claim need not pass the latter. */
export const STATE = Object.freeze({
  /** Due, and nobody's. */
  ready: 0,
  /** In somebody's claim. */
  claimed: 1,
  /** Not due yet: sent with a delay, or failed. */
  waiting: 2,
  /** Quarantined, and the later rows of its key wait. */
  holding: 3,
  /** Quarantined. */
  quarantined: 4,
  /** Sent, and kept for a while. */
  sent: 5,
});

export const DEFAULT_OUTBOX_TABLE = "anybroker_outbox";
export const DEFAULT_INBOX_TABLE = "anybroker_inbox";

/** The options of {@link sqliteOutboxSql} and {@link sqliteInboxSql}. */
export interface SqliteSqlOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default as that of the store. */
  readonly table?: string;
  /** The version that the table has already; 0, the default, is none. */
  readonly from?: number;
}

/**
 * The statements that make the outbox's table, for a team's own migration tool: each to run once, in order. The store's
 * `migrate` runs the same, and knows of both which versions were reached. A version that was released is never changed; a
 * new one comes with an entry in the change log. Throws `invalid` for wrong options.
 */
export function sqliteOutboxSql(options: SqliteSqlOptions = {}): readonly string[] {
  return sql("sqliteOutboxSql", DEFAULT_OUTBOX_TABLE, OUTBOX_VERSIONS, options);
}

/** As {@link sqliteOutboxSql}, for the inbox's table. */
export function sqliteInboxSql(options: SqliteSqlOptions = {}): readonly string[] {
  return sql("sqliteInboxSql", DEFAULT_INBOX_TABLE, INBOX_VERSIONS, options);
}

function sql(where: string, standard: string, versions: Versions, options: SqliteSqlOptions): readonly string[] {
  checkOptions(where, options, ["table", "from"]);
  const { table = standard, from = 0 } = options;
  checkTableName(`${where} { table }`, table);
  checkInteger(`${where} { from }`, from, 0, versions.length);
  return versionsSql(table, versions, from);
}

function inboxFirst(table: string): readonly string[] {
  return [
    `CREATE TABLE "${table}" (
  consumer TEXT NOT NULL,
  message_id TEXT NOT NULL,
  handled_at INTEGER NOT NULL,
  PRIMARY KEY (consumer, message_id)
) STRICT, WITHOUT ROWID`,
    `CREATE INDEX "${table}_handled_at" ON "${table}" (consumer, handled_at)`,
  ];
}

function outboxFirst(table: string): readonly string[] {
  return [
    `CREATE TABLE "${table}" (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  state INTEGER NOT NULL,
  message_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  destination TEXT NOT NULL,
  key TEXT,
  routing_key TEXT,
  headers TEXT NOT NULL,
  body BLOB NOT NULL,
  content_type TEXT NOT NULL,
  priority INTEGER NOT NULL,
  ordered INTEGER NOT NULL,
  discard_unroutable INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  expires_at INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  token TEXT,
  ends_at INTEGER,
  error_code TEXT,
  error_message TEXT
) STRICT`,
    `CREATE INDEX "${table}_state" ON "${table}" (state)`,
    `CREATE INDEX "${table}_waiting" ON "${table}" (due_at) WHERE state = ${STATE.waiting}`,
    // What may keep the other rows of a key from being claimed.
    `CREATE INDEX "${table}_key" ON "${table}" (destination, key, kind)
WHERE key IS NOT NULL AND state IN (${STATE.claimed}, ${STATE.waiting}, ${STATE.holding})`,
    `CREATE INDEX "${table}_token" ON "${table}" (token) WHERE token IS NOT NULL`,
    `CREATE INDEX "${table}_sent" ON "${table}" (ends_at) WHERE state = ${STATE.sent}`,
  ];
}

/** The versions of the inbox's table. */
export const INBOX_VERSIONS: Versions = [inboxFirst];

/** The versions of the outbox's table. */
export const OUTBOX_VERSIONS: Versions = [outboxFirst];

/** The statements of each version, for a table's name; the first is of version 1. None of them ever changes. */
type Versions = readonly ((table: string) => readonly string[])[];

/** The statements of the versions after one, each version with the note that it is reached. */
function versionsSql(table: string, versions: Versions, from: number): readonly string[] {
  const steps = versions.map((statements, index) => [
    ...statements(table),
    `INSERT INTO "${table}_versions" (version) VALUES (${index + 1})`,
  ]);
  return [versionsTable(table), ...steps.flat()].slice(from === 0 ? 0 : 1 + steps.slice(0, from).flat().length);
}

function versionsTable(table: string): string {
  return `CREATE TABLE "${table}_versions" (
  version INTEGER PRIMARY KEY,
  reached_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT`;
}

/** Brings the database to the last version. Of several at once the later ones find it done. */
export async function migrate(
  connection: SqliteConnection<SqliteDatabase>,
  timeoutMs: number,
  table: string,
  versions: Versions,
): Promise<void> {
  const reached = (database: SqliteDatabase): number => versionOf(database, table, versions.length);
  // Most often there is nothing to do, and no lock to wait for.
  if ((await connection.read("migrate", timeoutMs, reached)) === versions.length) return;
  await connection.write("migrate", timeoutMs, (database) => {
    const from = reached(database);
    if (from === versions.length) return;
    for (const statement of versionsSql(table, versions, from)) database.exec(statement);
  });
}

function versionOf(database: SqliteDatabase, table: string, last: number): number {
  const known = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
  const isThere = (name: string): boolean => known.get(name) !== undefined;
  if (!isThere(`${table}_versions`)) return isThere(table) ? unversioned(table) : 0;
  const newest = database.prepare(`SELECT coalesce(max(version), 0) AS version FROM "${table}_versions"`).get();
  const { version } = newest as { readonly version: number };
  if (version === 0) unversioned(table);
  if (version <= last) return version;
  throw new MessagingError(
    "conflict",
    `the SQLite table "${table}" is of version ${version}, made by a newer anybroker, and this one knows ${last}: install the newer one here`,
  );
}

function unversioned(table: string): never {
  throw new MessagingError(
    "conflict",
    `the SQLite database has a table "${table}" or "${table}_versions", and no version is noted: somebody emptied or dropped the latter. Note the version that the table has, as INSERT INTO "${table}_versions" (version) VALUES (1), or drop both, and migrate again`,
  );
}

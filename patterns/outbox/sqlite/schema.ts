import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { checkTableName } from "../../../sql/tables.ts";
import { type Versions, versionsSql } from "./migrations.ts";

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

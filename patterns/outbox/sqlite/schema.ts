import { checkOptions } from "../../../core/checks.ts";
import { checkTableName, SqliteSchema } from "../../../sql/schema.ts";

/** The states of a row. Due rows have their own state, so that a claim need not scan the others. */
export const STATE = Object.freeze({
  /** Due and unclaimed. */
  ready: 0,
  /** In a claim. */
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
  /** The version that the table has now. Default 0, for no table. */
  readonly from?: number;
}

/**
 * The statements that create the outbox's table, for your own migration tool. Run each once, in order. The store's `migrate`
 * runs the same, and both note the versions. A released version never changes; the change log announces new ones. Throws
 * `invalid` for wrong options.
 */
export function sqliteOutboxSql(options: SqliteSqlOptions = {}): readonly string[] {
  return sql("sqliteOutboxSql", DEFAULT_OUTBOX_TABLE, outboxSchema(), options);
}

/** The statements that create the inbox's table, as {@link sqliteOutboxSql}. */
export function sqliteInboxSql(options: SqliteSqlOptions = {}): readonly string[] {
  return sql("sqliteInboxSql", DEFAULT_INBOX_TABLE, inboxSchema(), options);
}

function sql(where: string, defaultTable: string, schema: SqliteSchema, options: SqliteSqlOptions): readonly string[] {
  checkOptions(where, options, ["table", "from"]);
  const { table = defaultTable, from } = options;
  checkTableName(`${where} { table }`, table);
  return schema.from(where, table, from);
}

export function inboxSchema(): SqliteSchema {
  return new SqliteSchema([inboxVersion1]);
}

export function outboxSchema(): SqliteSchema {
  return new SqliteSchema([outboxVersion1]);
}

function inboxVersion1(table: string): readonly string[] {
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

function outboxVersion1(table: string): readonly string[] {
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
    // Finds rows that block the other rows of their key.
    `CREATE INDEX "${table}_key" ON "${table}" (destination, key, kind)
WHERE key IS NOT NULL AND state IN (${STATE.claimed}, ${STATE.waiting}, ${STATE.holding})`,
    `CREATE INDEX "${table}_token" ON "${table}" (token) WHERE token IS NOT NULL`,
    `CREATE INDEX "${table}_sent" ON "${table}" (ends_at) WHERE state = ${STATE.sent}`,
  ];
}

import { checkOptions } from "../../../core/names.ts";
import { type Migrations, migrationSql } from "./migrations.ts";
import { checkTableName } from "./table-name.ts";

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

/** The versions of the inbox's table. */
export const INBOX_MIGRATIONS: Migrations = [
  (table) => [
    `CREATE TABLE "${table}" (
  consumer TEXT NOT NULL,
  message_id TEXT NOT NULL,
  handled_at INTEGER NOT NULL,
  PRIMARY KEY (consumer, message_id)
) STRICT, WITHOUT ROWID`,
    `CREATE INDEX "${table}_handled_at" ON "${table}" (consumer, handled_at)`,
  ],
];

/** The versions of the outbox's table. */
export const OUTBOX_MIGRATIONS: Migrations = [
  (table) => [
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
  ],
];

/** Where rows are. */
export interface SqliteTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 63 at most. Default as that of the store. */
  readonly table?: string;
}

/**
 * The statements that make the outbox's table, for a team's own migration tool: each is to run once, in order. The
 * store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function sqliteOutboxSql(options: SqliteTableOptions = {}): readonly string[] {
  checkOptions("sqliteOutboxSql", options, ["table"]);
  const { table = DEFAULT_OUTBOX_TABLE } = options;
  checkTableName("sqliteOutboxSql { table }", table);
  return migrationSql(table, OUTBOX_MIGRATIONS, 0);
}

/** As {@link sqliteOutboxSql}, for the inbox's table. */
export function sqliteInboxSql(options: SqliteTableOptions = {}): readonly string[] {
  checkOptions("sqliteInboxSql", options, ["table"]);
  const { table = DEFAULT_INBOX_TABLE } = options;
  checkTableName("sqliteInboxSql { table }", table);
  return migrationSql(table, INBOX_MIGRATIONS, 0);
}

export const DEFAULT_OUTBOX_TABLE = "anybroker_outbox";
export const DEFAULT_INBOX_TABLE = "anybroker_inbox";

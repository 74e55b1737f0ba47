export type { OwnedSqliteDatabase, SqliteDatabase, SqliteStatement, SqliteValue } from "../../../sql/sqlite.ts";
export { type SqliteInbox, type SqliteInboxOptions, sqliteInbox } from "./inbox.ts";
export { type SqliteOutbox, type SqliteOutboxOptions, sqliteOutbox } from "./outbox.ts";
export { type SqliteSqlOptions, sqliteInboxSql, sqliteOutboxSql } from "./schema.ts";

export type { PostgresListener, PostgresOutboxDatabase, PostgresTransaction } from "./database.ts";
export { type PostgresInbox, type PostgresInboxOptions, postgresInbox } from "./inbox.ts";
export type { CallbackPool, PostgresInboxClient, PostgresInboxPool } from "./inbox-database.ts";
export { type PostgresInboxSqlOptions, type PostgresInboxTableOptions, postgresInboxSql } from "./inbox-table.ts";
export { type PostgresOutboxSqlOptions, postgresOutboxSql } from "./migrations.ts";
export { type PostgresOutbox, type PostgresOutboxOptions, postgresOutbox } from "./store.ts";
export type { PostgresOutboxTableOptions } from "./tables.ts";

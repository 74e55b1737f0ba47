export type { PostgresListener, PostgresOutboxDatabase, PostgresTransaction } from "./database.ts";
export { type PostgresInbox, type PostgresInboxOptions, postgresInbox } from "./inbox.ts";
export type { PostgresInboxClient, PostgresInboxPool } from "./inbox-database.ts";
export { type PostgresInboxTableOptions, postgresInboxSql } from "./inbox-table.ts";
export { type PostgresOutboxMigration, postgresOutboxMigrations } from "./migrations.ts";
export { type PostgresOutboxStore, type PostgresOutboxStoreOptions, postgresOutboxStore } from "./store.ts";
export type { PostgresOutboxTableOptions } from "./tables.ts";

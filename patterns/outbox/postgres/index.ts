export type { PostgresListener, PostgresOutboxDatabase, PostgresTransaction } from "./database.ts";
export { type PostgresOutboxMigration, postgresOutboxMigrations } from "./migrations.ts";
export { type PostgresOutboxStore, type PostgresOutboxStoreOptions, postgresOutboxStore } from "./store.ts";
export type { PostgresOutboxTableOptions } from "./tables.ts";

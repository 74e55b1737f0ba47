export type { PostgresListener, PostgresOutboxDatabase, PostgresTransaction } from "./connection.ts";
export { type PostgresInbox, type PostgresInboxOptions, postgresInbox } from "./inbox.ts";
export type { CallbackPool, PostgresInboxClient, PostgresInboxPool } from "./inbox-table.ts";
export { type PostgresInboxSqlOptions, type PostgresInboxTableOptions, postgresInboxSql } from "./inbox-table.ts";
export { type PostgresOutboxSqlOptions, postgresOutboxSql } from "./migrations.ts";
export type { PostgresOutboxTableOptions } from "./statements.ts";
export { type PostgresOutbox, type PostgresOutboxOptions, postgresOutbox } from "./store.ts";

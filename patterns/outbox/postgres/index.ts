export type { PostgresDatabase } from "../../../sql/postgres.ts";
export type { PostgresListener, PostgresOutboxDatabase, PostgresTransaction } from "./connection.ts";
export {
  type CallbackPool,
  type PostgresInbox,
  type PostgresInboxClient,
  type PostgresInboxOptions,
  type PostgresInboxPool,
  type PostgresInboxSqlOptions,
  type PostgresInboxTableOptions,
  postgresInbox,
  postgresInboxSql,
} from "./inbox.ts";
export { type PostgresOutboxSqlOptions, type PostgresOutboxTableOptions, postgresOutboxSql } from "./schema.ts";
export { type PostgresOutbox, type PostgresOutboxOptions, postgresOutbox } from "./store.ts";

export type { PostgresDatabase } from "./database.ts";
export {
  type PostgresIdempotencyStore,
  type PostgresIdempotencyStoreOptions,
  postgresIdempotencyStore,
} from "./store.ts";
export { type PostgresIdempotencyTableOptions, postgresIdempotencySql } from "./table.ts";

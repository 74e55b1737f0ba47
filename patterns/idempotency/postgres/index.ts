export type { PostgresDatabase } from "./store.ts";
export {
  type PostgresIdempotencyStore,
  type PostgresIdempotencyStoreOptions,
  type PostgresIdempotencyTableOptions,
  postgresIdempotencySql,
  postgresIdempotencyStore,
} from "./store.ts";

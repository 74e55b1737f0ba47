export type { PostgresDatabase } from "../../../sql/postgres.ts";
export {
  type PostgresIdempotencyStore,
  type PostgresIdempotencyStoreOptions,
  type PostgresIdempotencyTableOptions,
  postgresIdempotencySql,
  postgresIdempotencyStore,
} from "./store.ts";

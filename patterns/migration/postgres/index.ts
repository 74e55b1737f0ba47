export type { PostgresDatabase } from "../../../sql/postgres.ts";
export {
  type PostgresMigrationStore,
  type PostgresMigrationStoreOptions,
  type PostgresMigrationTableOptions,
  postgresMigrationSql,
  postgresMigrationStore,
} from "./store.ts";

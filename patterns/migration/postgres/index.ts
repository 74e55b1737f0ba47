export type { PostgresDatabase } from "./store.ts";
export {
  type PostgresMigrationStore,
  type PostgresMigrationStoreOptions,
  type PostgresMigrationTableOptions,
  postgresMigrationSql,
  postgresMigrationStore,
} from "./store.ts";

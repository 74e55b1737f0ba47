export type { PostgresDatabase } from "./database.ts";
export {
  type PostgresMigrationStore,
  type PostgresMigrationStoreOptions,
  postgresMigrationStore,
} from "./store.ts";
export { type PostgresMigrationTableOptions, postgresMigrationSql } from "./tables.ts";

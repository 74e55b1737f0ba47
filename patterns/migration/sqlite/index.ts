export type { SqliteDatabase, SqliteStatement } from "./store.ts";
export { type SqliteMigrationStoreOptions, sqliteMigrationStore } from "./store.ts";

export type { SqliteDatabase, SqliteStatement } from "./database.ts";
export { type SqliteMigrationStoreOptions, sqliteMigrationStore } from "./store.ts";

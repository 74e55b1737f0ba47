export type { SqliteDatabase, SqliteStatement, SqliteValue } from "../../../sql/sqlite.ts";
export { type SqliteMigrationStoreOptions, sqliteMigrationStore } from "./store.ts";

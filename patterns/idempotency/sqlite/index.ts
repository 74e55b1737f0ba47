export type { SqliteDatabase, SqliteStatement, SqliteValue } from "../../../sql/sqlite.ts";
export { type SqliteIdempotencyStoreOptions, sqliteIdempotencyStore } from "./store.ts";

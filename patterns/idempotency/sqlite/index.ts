export type { SqliteDatabase, SqliteStatement } from "./database.ts";
export { type SqliteIdempotencyStoreOptions, sqliteIdempotencyStore } from "./store.ts";

export type { SqliteDatabase, SqliteStatement } from "./store.ts";
export { type SqliteIdempotencyStoreOptions, sqliteIdempotencyStore } from "./store.ts";

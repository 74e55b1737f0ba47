import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { OpenStore } from "../../../conformance/idempotency/index.ts";
import { sqliteIdempotencyStore } from "../../../patterns/idempotency/sqlite-store.ts";

/** Opens the store of a database file, with a connection of its own; a process of the conformance suite does it too. */
export function openStore(file: string, timeout?: number): OpenStore {
  const database = openDatabase(file, timeout);
  return { store: sqliteIdempotencyStore(database), close: async () => database.close() };
}

/** A connection as a user is told to make it. */
export function openDatabase(file: string, timeout = 5_000): DatabaseSync {
  const database = new DatabaseSync(file, { timeout });
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
  return database;
}

/** A database file in a folder of its own. */
export function newDatabase(): { readonly file: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "anybroker-sqlite-"));
  return { file: join(folder, "store.db"), remove: () => rmSync(folder, { recursive: true, force: true }) };
}

import type { DatabaseSync } from "node:sqlite";
import type { Pool } from "pg";
import type { InboxStore } from "../../../patterns/outbox/index.ts";
import { postgresInbox, postgresOutbox } from "../../../patterns/outbox/postgres/index.ts";
import { sqliteInbox, sqliteOutbox } from "../../../patterns/outbox/sqlite/index.ts";
import type { OutboxStore } from "../../../patterns/outbox/store.ts";
import { openPool } from "../postgres-pool.ts";
import { openDatabase } from "./sqlite/databases.ts";

/** Where books are kept; travels to other processes as JSON. */
export type BooksPlace = { readonly file: string } | { readonly url: string };

/** Effects, the inbox and the outbox of consumers, in one database. */
export interface Books<Transaction = unknown> {
  readonly inbox: InboxStore<Transaction>;
  readonly store: OutboxStore<Transaction>;
  write(transaction: Transaction, effect: string): Promise<void>;
  /** The committed effects, in the order of their text. */
  effects(): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** Opens books with connections of their own, and makes their tables unless they are there. */
export async function openBooks(place: BooksPlace): Promise<Books> {
  return ("file" in place ? await sqliteBooks(place.file) : await postgresBooks(place.url)) as Books;
}

const COUNT = "SELECT effect FROM effects ORDER BY effect";
const WRITE = "INSERT INTO effects (effect) VALUES ($1)";
const effectOf = (row: unknown): string => (row as { readonly effect: string }).effect;

async function sqliteBooks(file: string): Promise<Books<DatabaseSync>> {
  const open = (): DatabaseSync => openDatabase(file);
  const [inbox, store] = [sqliteInbox(open, { timeoutMs: 10_000 }), sqliteOutbox(open, { timeoutMs: 10_000 })];
  await inbox.migrate();
  await store.migrate();
  const mine = open();
  mine.exec("PRAGMA busy_timeout = 10000; CREATE TABLE IF NOT EXISTS effects (effect TEXT NOT NULL) STRICT");
  return {
    inbox,
    store,
    write: async (transaction, effect) =>
      void transaction.prepare("INSERT INTO effects (effect) VALUES (?)").run(effect),
    effects: async () => mine.prepare(COUNT).all().map(effectOf),
    async close() {
      mine.close();
      await Promise.all([inbox.close(), store.close()]);
    },
  };
}

async function postgresBooks(url: string): Promise<Books> {
  const pool: Pool = openPool(url);
  const [inbox, store] = [postgresInbox(pool), postgresOutbox(pool)];
  await inbox.migrate();
  await store.migrate();
  await pool.query('CREATE TABLE IF NOT EXISTS effects (effect text COLLATE "C" NOT NULL)');
  const books: Books<Parameters<Parameters<typeof inbox.handle>[1]>[0]> = {
    inbox,
    store,
    write: async (transaction, effect) => void (await transaction.query(WRITE, [effect])),
    effects: async () => (await pool.query(COUNT)).rows.map(effectOf),
    close: () => pool.end(),
  };
  return books as Books;
}

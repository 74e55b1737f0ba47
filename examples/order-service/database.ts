import type { InboxStore, OutboxStore } from "anybroker/outbox";

/** What `$1`, `$2` and so on stand for. */
type Values = readonly (string | number)[];

interface Migrated {
  /** Makes the tables. */
  migrate(): Promise<void>;
}

/** The service's database: its own tables, and those of the outbox and the inbox. */
export interface Database<Transaction> {
  readonly outbox: OutboxStore<Transaction> & Migrated;
  readonly inbox: InboxStore<Transaction> & Migrated;
  /** Commits what the work did, or rolls it back if the work throws. */
  transaction<Result>(work: (transaction: Transaction) => Promise<Result>): Promise<Result>;
  /** Runs one statement within a transaction. */
  ask(transaction: Transaction, statement: string, values?: Values): Promise<readonly unknown[]>;
  close(): Promise<void>;
}

/**
 * Opens the database of a run: in Postgres if the place is a URL such as `postgres://user:password@host/database`, or in a
 * file. What is done with it is given, because the two have transactions of different types.
 */
export async function withDatabase<Result>(
  place: string,
  run: string,
  use: <Transaction>(database: Database<Transaction>) => Promise<Result>,
): Promise<Result> {
  if (/^postgres(ql)?:/.test(place)) return use((await import("./in-postgres.ts")).openPostgres(place, run));
  return use((await import("./in-sqlite.ts")).openSqlite(place, run));
}

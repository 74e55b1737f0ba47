import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { sqliteInbox, sqliteOutbox } from "anybroker/outbox/sqlite";
import type { Database } from "./database.ts";

const BUSY = 5;
const TRY_AGAIN_MS = 5;
const WITHIN_MS = 60_000;

/** The database of a run in a file, for processes of one machine. */
export function openSqlite(file: string, run: string): Database<DatabaseSync> {
  const open = (): DatabaseSync => {
    const database = new DatabaseSync(file, { timeout: WITHIN_MS });
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    // The first look at the file may meet whoever opens or closes it. From here on nobody waits in the event loop.
    database.exec("PRAGMA busy_timeout = 0");
    return database;
  };
  const outbox = sqliteOutbox(open, { table: `outbox_${run}` });
  const inbox = sqliteInbox(open, { table: `inbox_${run}` });
  const database = open();
  let last: Promise<unknown> = Promise.resolve();
  return {
    outbox,
    inbox,
    transaction(work) {
      // One after another: all have this connection.
      const mine = last.then(async () => {
        await begin(database);
        try {
          const result = await work(database);
          database.exec("COMMIT");
          return result;
        } catch (error) {
          if (database.isOpen && database.isTransaction) database.exec("ROLLBACK");
          throw error;
        }
      });
      last = mine.catch(() => undefined);
      return mine;
    },
    async ask(transaction, statement, values = []) {
      const named = Object.fromEntries(values.map((value, index) => [`$${index + 1}`, value]));
      return transaction.prepare(statement).all(named);
    },
    async close() {
      await Promise.all([outbox.close(), inbox.close(), last]);
      if (database.isOpen) database.close();
    },
  };
}

/** Waits for the lock without standing in the way of whoever holds it: it may be somebody in this process. */
async function begin(database: DatabaseSync): Promise<void> {
  for (const since = performance.now(); ; await sleep(TRY_AGAIN_MS)) {
    try {
      return database.exec("BEGIN IMMEDIATE");
    } catch (error) {
      const isBusy = (error as { readonly errcode?: unknown }).errcode === BUSY;
      if (!isBusy || performance.now() - since > WITHIN_MS) throw error;
    }
  }
}

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { OpenInbox, OpenOutbox } from "../../../../conformance/outbox/harness.ts";
import { type SqliteOutbox, sqliteInbox, sqliteOutbox } from "../../../../patterns/outbox/sqlite/index.ts";

/** A connection as a user is told to make it. */
export function openDatabase(file: string): DatabaseSync {
  const database = new DatabaseSync(file);
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
  return database;
}

/** A database file in a folder of its own. */
export function newDatabase(): { readonly file: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "anybroker-outbox-"));
  return { file: join(folder, "store.db"), remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Which outbox to open. */
export interface OutboxToOpen {
  readonly file: string;
  readonly table: string;
  readonly keepSentMs: number;
  readonly timeoutMs: number;
}

/** Opens an outbox with connections of its own; a process of the conformance suite does it too. */
export async function openOutbox({ file, ...options }: OutboxToOpen): Promise<OpenOutbox<DatabaseSync>> {
  const store: SqliteOutbox<DatabaseSync> = sqliteOutbox(() => openDatabase(file), options);
  await store.migrate();
  return {
    store,
    async begin() {
      const transaction = openDatabase(file);
      transaction.exec("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE");
      const end = (how: string) => async (): Promise<void> => {
        transaction.exec(how);
        transaction.close();
      };
      return { transaction, commit: end("COMMIT"), rollback: end("ROLLBACK") };
    },
    close: () => store.close(),
  };
}

/** Which inbox to open. */
export interface InboxToOpen {
  readonly file: string;
  readonly table: string;
}

/** Opens an inbox with a connection of its own, beside the table `effects`; a process of the conformance suite does it too. */
export async function openInbox({ file, table }: InboxToOpen): Promise<OpenInbox<DatabaseSync>> {
  const inbox = sqliteInbox(() => openDatabase(file), { table, timeoutMs: 500 });
  await inbox.migrate();
  return {
    inbox,
    write: async (transaction, effect) =>
      void transaction.prepare("INSERT INTO effects (effect) VALUES (?)").run(effect),
    close: () => inbox.close(),
  };
}

import { DatabaseSync } from "node:sqlite";
import { sqliteInbox, sqliteOutbox } from "anybroker/outbox/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { newDatabase, openDatabase } from "./databases.ts";

test("the stores never let SQLite wait for a lock, whatever the timeout of the connections that they are given", async () => {
  const { file, remove } = newDatabase();
  const opened: DatabaseSync[] = [];
  const open = (): DatabaseSync => {
    openDatabase(file).close();
    const database = new DatabaseSync(file, { timeout: 1_000 });
    opened.push(database);
    return database;
  };
  const [inbox, outbox] = [sqliteInbox(open), sqliteOutbox(open)];
  onTestFinished(async () => {
    await inbox.close();
    await outbox.close();
    remove();
  });
  await inbox.migrate();
  await outbox.migrate();
  const timeouts = () => opened.map((database) => database.prepare("PRAGMA busy_timeout").get());
  expect(timeouts()).toEqual([{ timeout: 0 }, { timeout: 0 }]);
  // Handlers have the connection too.
  const options = { waitMs: 5_000, signal: new AbortController().signal };
  const waits = async (database: DatabaseSync): Promise<boolean> => {
    database.exec("PRAGMA busy_timeout = 1000");
    return true;
  };
  expect(await inbox.handle({ consumer: "c", id: "m-1" }, waits, options)).toBe("committed");
  expect(await inbox.handle({ consumer: "c", id: "m-2" }, async () => true, options)).toBe("committed");
  expect(timeouts()).toEqual([{ timeout: 0 }, { timeout: 0 }]);
});

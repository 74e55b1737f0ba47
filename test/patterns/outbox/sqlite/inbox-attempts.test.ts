import { DatabaseSync } from "node:sqlite";
import { retry } from "anybroker";
import { describe, expect, onTestFinished, test } from "vitest";
import { sqliteInbox } from "../../../../patterns/outbox/sqlite/index.ts";
import { attempting, expectDeadAfter } from "../inbox-attempts.ts";
import { newDatabase } from "./databases.ts";

/** An inbox whose connections are as given, and a look at what was committed. */
async function open(prepare: (database: DatabaseSync) => DatabaseSync = (database) => database) {
  const { file, remove } = newDatabase();
  onTestFinished(() => remove());
  const looking = new DatabaseSync(file);
  onTestFinished(() => looking.close());
  looking.exec("PRAGMA journal_mode = WAL; CREATE TABLE kept (id TEXT NOT NULL, body BLOB) STRICT");
  const inbox = sqliteInbox(() => prepare(new DatabaseSync(file)));
  onTestFinished(() => inbox.close());
  await inbox.migrate();
  const kept = () =>
    looking
      .prepare("SELECT id FROM kept")
      .all()
      .map(({ id }) => id);
  return { inbox, kept };
}

/** Has a connection take little more than what is there. */
function small(database: DatabaseSync): DatabaseSync {
  database.exec("PRAGMA max_page_count = 40");
  return database;
}

function fill(database: DatabaseSync): void {
  database.exec("INSERT INTO kept (id) VALUES ('m-1'); INSERT INTO kept VALUES ('m-2', zeroblob(1000000))");
}

/** An error as `node:sqlite` throws it. */
const failure = (errcode: number) => Object.assign(new Error("disk I/O error"), { code: "ERR_SQLITE_ERROR", errcode });
const IO_ERROR = 10;

describe("attempts at a message whose handler writes to SQLite are used up", () => {
  test.for<readonly [what: string, afterwards: (error: unknown) => unknown]>([
    ["throws that", (error) => Promise.reject(error)],
    ["throws an error of its own because of it", (cause) => Promise.reject(new Error("no", { cause }))],
  ])("by a statement that fills the database, and it %s", async ([, afterwards]) => {
    const { inbox, kept } = await open(small);
    const run = await attempting(inbox, 2, (database) => {
      try {
        fill(database);
      } catch (error) {
        return afterwards(error) as undefined;
      }
    });
    await expectDeadAfter(2, run);
    expect(kept()).toEqual([]);
  });

  test.for<readonly [what: string, afterwards: () => unknown]>([
    ["throws", () => Promise.reject(new Error("no"))],
    ["returns", () => undefined],
    ["asks for a retry", () => retry({ afterMs: 0 })],
  ])("by a handler that closes the connection, and %s", async ([, afterwards]) => {
    const { inbox, kept } = await open();
    const run = await attempting(inbox, 2, (database) => {
      database.exec("INSERT INTO kept (id) VALUES ('m-1')");
      database.close();
      return afterwards() as undefined;
    });
    await expectDeadAfter(2, run);
    expect(kept()).toEqual([]);
  });

  test("by a commit that fails", async () => {
    const { inbox, kept } = await open((database) =>
      withCommit(database, () => {
        throw failure(IO_ERROR);
      }),
    );
    const run = await attempting(inbox, 2, (database) => database.exec("INSERT INTO kept (id) VALUES ('m-1')"));
    await expectDeadAfter(2, run);
    expect(kept()).toEqual([]);
  });
});

test("a handler that goes on where SQLite has rolled back has its message dead-lettered at once", async () => {
  const { inbox, kept } = await open(small);
  const run = await attempting(inbox, 2, (database) => {
    try {
      fill(database);
    } catch {
      // Whatever is written now is out of the transaction.
      database.exec("INSERT INTO kept (id) VALUES ('late')");
    }
  });
  await expect.poll(() => run.dead).toEqual(["rejected"]);
  expect({ starts: run.starts, kept: kept() }).toEqual({ starts: [1], kept: ["late"] });
});

test("a commit that fails and is kept all the same is found, and the message done", async () => {
  const { inbox, kept } = await open((database) =>
    withCommit(database, (commit) => {
      commit();
      throw failure(IO_ERROR);
    }),
  );
  const run = await attempting(inbox, 1, (database) => database.exec("INSERT INTO kept (id) VALUES ('m-1')"));
  await expect.poll(() => run.succeeded() + run.dead.length).toBe(1);
  expect({ dead: run.dead, starts: run.starts, kept: kept() }).toEqual({ dead: [], starts: [1], kept: ["m-1"] });
});

test("attempts are not used up while another connection holds the lock", async () => {
  const { inbox } = await open();
  const other = inbox.handle({ consumer: "others", id: "o-1" }, () => held.promise, {
    waitMs: 10_000,
    signal: new AbortController().signal,
  });
  const held = Promise.withResolvers<boolean>();
  const run = await attempting(inbox, 1, () => undefined);
  await expect.poll(() => run.inboxEvents.filter(({ type }) => type === "postponed").length).toBeGreaterThan(2);
  held.resolve(true);
  await other;
  await expect.poll(() => run.succeeded() + run.dead.length).toBe(1);
  expect({ dead: run.dead, starts: run.starts }).toEqual({ dead: [], starts: [1] });
});

/** Has the commit of a connection be what is given; migrations are let be. */
function withCommit(database: DatabaseSync, commit: (original: () => void) => unknown): DatabaseSync {
  const exec = database.exec.bind(database);
  const known = () =>
    database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'anybroker_inbox'").get() !== undefined;
  let isMade = known();
  database.exec = (sql) => {
    if (sql === "COMMIT" && isMade) commit(() => exec(sql));
    else exec(sql);
    isMade ||= sql === "COMMIT" && known();
  };
  return database;
}

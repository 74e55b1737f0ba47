import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, it, test } from "vitest";
import { storeConformance } from "../../../conformance/idempotency/index.ts";
import { sqliteIdempotencyStore } from "../../../patterns/idempotency/sqlite-store.ts";
import { newDatabase, openDatabase, openStore } from "./sqlite-database.ts";

const { file, remove } = newDatabase();
const mine = openDatabase(file);
afterAll(() => {
  mine.close();
  remove();
});

storeConformance(
  {
    name: "sqlite",
    // Nobody else holds the lock but in an outage, which need not take long.
    open: () => openStore(file, 50),
    processes: { module: new URL("sqlite-database.ts", import.meta.url).href, options: file },
    outage: {
      begin: async () => mine.exec("BEGIN IMMEDIATE"),
      end: async () => {
        if (mine.isTransaction) mine.exec("COMMIT");
      },
    },
    count: async (prefix) => {
      const count = mine.prepare("SELECT count(*) AS n FROM anybroker_idempotency WHERE key LIKE ? || '%'");
      return Number(count.get(prefix)?.n);
    },
  },
  { describe, test, afterAll },
);

describe("the SQLite store", () => {
  it("refuses to be drawn into somebody's transaction", async () => {
    const store = sqliteIdempotencyStore(mine);
    mine.exec("BEGIN");
    await expect(store.claim("within", 60_000)).rejects.toMatchObject({ code: "conflict" });
    mine.exec("ROLLBACK");
    expect(await store.claim("within", 60_000)).toMatchObject({ status: "claimed" });
  });

  it("uses the table it is told to, and makes none if so told", async () => {
    const database = new DatabaseSync(":memory:");
    expect(() => sqliteIdempotencyStore(database, { create: false })).toThrow("is not there");
    const store = sqliteIdempotencyStore(database, { table: "mine" });
    await store.claim("key", 60_000);
    expect(database.prepare("SELECT key FROM mine").all()).toEqual([{ key: "key" }]);
    const again = sqliteIdempotencyStore(database, { table: "mine", create: false });
    expect(await again.claim("key", 60_000)).toMatchObject({ status: "busy" });
    database.close();
  });

  it("tells the refusal of one key from the failure of all", async () => {
    const database = new DatabaseSync(":memory:");
    const store = sqliteIdempotencyStore(database, { table: "mine" });
    database.exec(`CREATE TRIGGER strict BEFORE INSERT ON mine WHEN NEW.key = 'refused'
      BEGIN SELECT RAISE(ABORT, 'no'); END`);
    await expect(store.claim("refused", 60_000)).rejects.toMatchObject({ code: "refused" });
    expect(await store.claim("other", 60_000)).toMatchObject({ status: "claimed" });
    database.close();
  });

  it("says that a closed database does not answer", async () => {
    const database = new DatabaseSync(":memory:");
    const store = sqliteIdempotencyStore(database);
    database.close();
    await expect(store.claim("key", 60_000)).rejects.toMatchObject({ code: "unreachable" });
  });

  it("refuses wrong options", () => {
    expect(() => sqliteIdempotencyStore(mine, { table: 'x"; DROP TABLE y' })).toThrow("{ table }");
    expect(() => sqliteIdempotencyStore(mine, { tabel: "x" } as object)).toThrow('no option "tabel"');
  });
});

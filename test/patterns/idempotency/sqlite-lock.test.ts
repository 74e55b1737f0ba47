import { sqliteIdempotencyStore } from "anybroker/idempotency/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { newDatabase, openDatabase } from "../outbox/sqlite/databases.ts";

test("of many calls that need a lock of another process one waits, and the others fail at once", async () => {
  const { file, remove } = newDatabase();
  const [mine, other] = [openDatabase(file), openDatabase(file)];
  onTestFinished(() => {
    mine.close();
    other.close();
    remove();
  });
  mine.exec("PRAGMA busy_timeout = 100");
  const store = sqliteIdempotencyStore(mine);
  other.exec("BEGIN IMMEDIATE");
  const calls = Array.from({ length: 50 }, (_, index) => store.claim(`key-${index}`, 1_000));
  const errors = await Promise.all(calls.map((call) => call.catch((error: unknown) => error)));
  // All were begun in one turn. The one that waited says so for all.
  expect(new Set(errors).size).toBe(1);
  expect(errors[0]).toMatchObject({ code: "unreachable" });
  other.exec("COMMIT");
  await new Promise(setImmediate);
  expect(await store.claim("key-0", 1_000)).toMatchObject({ status: "claimed" });
});

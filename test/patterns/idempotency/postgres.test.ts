import { expect, test } from "vitest";
import {
  type PostgresDatabase,
  postgresIdempotencySql,
  postgresIdempotencyStore,
} from "../../../patterns/idempotency/postgres-store.ts";

const silent: PostgresDatabase = { query: () => new Promise(() => {}) };

test("wrong options are refused", () => {
  const store = (options: object) => () => postgresIdempotencyStore(silent, options);
  for (const name of ['x"; DROP TABLE y', "1st", "", "a.b", "a".repeat(64), "ä"]) {
    expect(store({ table: name })).toThrow("{ table }");
    expect(store({ schema: name })).toThrow("{ schema }");
    expect(() => postgresIdempotencySql({ table: name })).toThrow("{ table }");
  }
  expect(store({ timeoutMs: 0 })).toThrow("{ timeoutMs }");
  expect(store({ tabel: "x" })).toThrow('no option "tabel"');
});

test("names are quoted, so that case and words of SQL are kept", () => {
  const [table] = postgresIdempotencySql({ schema: "Order", table: "Select" });
  expect(table).toContain('CREATE TABLE "Order"."Select"');
});

test("a database that does not answer, or throws, is a call that fails in its time", async () => {
  await expect(postgresIdempotencyStore(silent, { timeoutMs: 10 }).claim("key", 1)).rejects.toMatchObject({
    code: "unreachable",
  });
  const throwing: PostgresDatabase = {
    query: () => {
      throw new Error("ended");
    },
  };
  await expect(postgresIdempotencyStore(throwing).clean(1)).rejects.toMatchObject({
    code: "unreachable",
    cause: { message: "ended" },
  });
});

test("a claim that was lost to a faster one is asked about again", async () => {
  const answers = [[], [{ status: "busy", remaining: "7" }]];
  const database: PostgresDatabase = { query: async () => ({ rows: answers.shift() ?? [] }) };
  expect(await postgresIdempotencyStore(database).claim("key", 1)).toEqual({ status: "busy", remainingMs: 7 });
});

import { expect, test } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { row } from "../../../conformance/outbox/outbox-place.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { createRelay, type RelayEvent } from "../../../patterns/outbox/index.ts";
import {
  type PostgresOutboxDatabase,
  postgresOutbox,
  postgresOutboxSql,
} from "../../../patterns/outbox/postgres/index.ts";
import { shardOf } from "../../../patterns/outbox/postgres/schema.ts";

const silent: PostgresOutboxDatabase = { query: () => new Promise(() => {}) };
const request = { relay: "test", limit: 1, leaseMs: 1_000 };

test("wrong options are refused", () => {
  const store = (options: object) => () => postgresOutbox(silent, options);
  for (const name of ['x"; DROP TABLE y', "1st", "", "a.b", "a".repeat(64), "ä"]) {
    expect(store({ table: name })).toThrow("{ table }");
    expect(store({ schema: name })).toThrow("{ schema }");
    expect(() => postgresOutboxSql({ table: name })).toThrow("{ table }");
  }
  for (const name of ["timeoutMs", "keepSentMs", "stallAfterMs"]) expect(store({ [name]: -1 })).toThrow(`{ ${name} }`);
  expect(store({ notify: 1 })).toThrow("{ notify }");
  expect(store({ tabel: "x" })).toThrow('no option "tabel"');
  expect(() => postgresOutboxSql({ from: 2 })).toThrow("{ from }");
});

test("the only connection of a pool is not kept for listening", async () => {
  let connects = 0;
  const connect = (): Promise<never> => {
    connects++;
    return Promise.reject(new Error("no connection"));
  };
  const listening = (max: number) =>
    postgresOutbox({ ...silent, connect, options: { max } } as never, { notify: true });
  const refusal = { code: "invalid", message: expect.stringContaining("at least two") };
  await expect(listening(1).listen?.(() => {})).rejects.toMatchObject(refusal);
  expect(connects).toBe(0);
  await (await listening(2).listen?.(() => {}))?.();
  expect(connects).toBe(1);
});

test("names are quoted, and versions that are reached left out", () => {
  const statements = postgresOutboxSql({ schema: "Order", table: "Select" });
  expect(statements.join()).toContain('CREATE TABLE "Order"."Select_shards"');
  expect(statements.at(-1)).toBe('INSERT INTO "Order"."Select_versions" (version) VALUES (1)');
  expect(postgresOutboxSql({ from: 1 })).toEqual([]);
});

test("a database that does not answer, or throws, is a call that fails in its time", async () => {
  const store = postgresOutbox(silent, { timeoutMs: 10 });
  await expect(store.claim(request)).rejects.toMatchObject({ code: "unreachable", cause: { code: "timeout" } });
  const throwing: PostgresOutboxDatabase = {
    query: () => {
      throw new Error("ended");
    },
  };
  await expect(postgresOutbox(throwing).health()).rejects.toMatchObject({
    code: "unreachable",
    cause: { message: "ended" },
  });
});

test("a claim whose answer comes too late, or whose rows cannot be read, is given back", async () => {
  const asked: (readonly [string, unknown[]])[] = [];
  const late = Promise.withResolvers<{ rows: unknown[] }>();
  const answers = [late.promise, Promise.resolve({ rows: [] })];
  const database: PostgresOutboxDatabase = {
    query: (text, values = []) => {
      asked.push([text, values]);
      return answers.shift() ?? Promise.reject(new Error("no"));
    },
  };
  const store = postgresOutbox(database, { timeoutMs: 10 });
  await expect(store.claim(request)).rejects.toMatchObject({ code: "unreachable" });
  late.resolve({ rows: [{ shard: "7" }] });
  await expect.poll(() => asked.length, { timeout: 30_000 }).toBe(2);
  const freed = ([text, values]: (typeof asked)[number]): unknown => (text.includes("#freed") ? values[2] : undefined);
  expect(asked.map(freed)).toEqual([undefined, [7]]);
  expect(asked[1]?.[1][0]).toBe(asked[0]?.[1][0]);

  answers.push(Promise.resolve({ rows: [{ shard: "9" }] }), Promise.reject(new Error("no")));
  await expect(store.claim(request)).rejects.toMatchObject({ cause: { message: "no" } });
  await expect.poll(() => asked.length, { timeout: 30_000 }).toBe(5);
  expect(asked.slice(2).map(freed)).toEqual([undefined, undefined, [9]]);
});

test("the shard of a key never changes: what waits was put there by other versions", () => {
  const keyed = (key: string) => shardOf(row("id", { key }));
  expect([keyed("a"), keyed("b"), keyed("ä"), shardOf(row("id"))]).toEqual([11, 49, 14, 16]);
  const shards = new Set(Array.from({ length: 1_000 }, (_, index) => keyed(`${index}`)));
  expect(shards.size).toBe(64);
  expect([...shards].every((shard) => shard >= 0 && shard < 64)).toBe(true);
});

test("a row that does not come back as it was written is quarantined, and never sent", async () => {
  const written = {
    position: 1,
    shard: 3,
    id: "m-1",
    kind: "queue",
    destination: "orders",
    key: null,
    routing_key: null,
    headers: { a: "b" },
    body: "7b7d",
    bytes: 2,
    content_type: "application/json",
    priority: 0,
    ordered: false,
    discard_unroutable: false,
    attempts: 0,
    expires_at: null,
    created_at: 1.5,
  };
  const changed: readonly object[] = [
    { body: "\\x7b7d" },
    { body: "7b" },
    { body: "7bzz" },
    { body: { type: "Buffer", data: [] } },
    { body: undefined },
    { headers: { a: 1 } },
    { headers: "{}" },
    { key: 7 },
    { content_type: undefined },
    { kind: "other" },
    { ordered: "t" },
    { created_at: "now" },
  ];
  const rows = [written, ...changed.map((change, index) => ({ ...written, position: index + 2, ...change }))];
  const settled: unknown[][] = [];
  let claimed = false;
  const database: PostgresOutboxDatabase = {
    query: async (text, values = []) => {
      if (text.includes("FOR NO KEY UPDATE OF l")) {
        if (claimed) return { rows: [] };
        claimed = true;
        return { rows: [{ shard: "3" }] };
      }
      if (text.includes("#row")) return { rows: rows.map((row) => ({ row: JSON.stringify(row) })) };
      if (text.includes("#gone")) settled.push(values);
      return { rows: rows.map(({ position }) => ({ position: String(position) })) };
    },
  };
  const events: RelayEvent[] = [];
  const broker = createBroker(memory(), { destinations: [queue("orders")] });
  await broker.start();
  const store = postgresOutbox(database);
  const relay = createRelay({ store, broker, clean: false, onEvent: (event) => events.push(event) });
  await relay.start();
  await expect
    .poll(() => settled.flatMap((values) => [...(values[1] as []), ...((values[3] as []) ?? [])]))
    .toHaveLength(rows.length);
  await relay.stop();
  expect(await relay.status()).toMatchObject({ sent: 1, quarantined: changed.length });
  const quarantined = events.filter((event) => event.type === "quarantined");
  expect(quarantined).toHaveLength(changed.length);
  expect(quarantined[0]).toMatchObject({ error: { code: "invalid", message: expect.stringContaining("row 2 of") } });
  await broker.stop();
});

test("a client that changes texts is told, and nothing is sent", async () => {
  for (const row of [{}, { row: { id: "m-1" } }, { row: "changed" }, { row: JSON.stringify({ position: "1" }) }]) {
    const answers: unknown[][] = [[{ shard: "3" }], [row]];
    const database: PostgresOutboxDatabase = { query: async () => ({ rows: answers.shift() ?? [] }) };
    await expect(postgresOutbox(database).claim(request)).rejects.toMatchObject({ code: "invalid" });
  }
  const odd: PostgresOutboxDatabase = { query: async () => ({ rows: [{ shard: 3.5, removed: {} }] }) };
  await expect(postgresOutbox(odd).claim(request)).rejects.toThrow("type text (25)");
  await expect(postgresOutbox(odd, { keepSentMs: 1 }).clean(1)).rejects.toThrow("type text (25)");
});

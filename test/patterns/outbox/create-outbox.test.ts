import { describe, expect, test } from "vitest";
import { z } from "zod";
import { memory } from "../../../adapters/memory/index.ts";
import type { Adapter } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue, topic } from "../../../core/destination.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { createOutbox, type NewOutboxRow, type OutboxStore } from "../../../patterns/outbox/index.ts";

interface Order {
  readonly id: string;
}
const orders = queue<Order>("orders", { priorities: 2 });
const sorted = queue<Order>("sorted", { ordered: true, key: ({ id }) => id });
const placed = topic<Order>("order.placed");

/** An adapter whose broker can do less. */
function lesser(changes: Partial<Adapter["capabilities"]>): Adapter {
  const adapter = memory();
  return Object.assign(Object.create(adapter) as Adapter, {
    name: "lesser",
    capabilities: { ...adapter.capabilities, ...changes },
  });
}

/** An outbox whose store only notes what it is given. */
function noting(adapter: Adapter = memory(), headers?: () => Record<string, string>) {
  const calls: (readonly [transaction: string, rows: readonly NewOutboxRow[]])[] = [];
  const store = {
    name: "noting",
    insert: (transaction: string, rows: readonly NewOutboxRow[]) => void calls.push([transaction, rows]),
  } as unknown as OutboxStore<string>;
  const broker = createBroker(adapter);
  return { calls, broker, outbox: createOutbox({ store, broker, ...(headers === undefined ? {} : { headers }) }) };
}

test("a message is written with its id, before the call returns where nothing is asynchronous", async () => {
  const { calls, outbox } = noting();
  const sent = outbox.send("tx", sorted, { id: "a" });
  expect(calls).toHaveLength(1);
  const [[transaction, [row]] = ["", []]] = calls;
  expect(transaction).toBe("tx");
  expect(row).toMatchObject({ to: { kind: "queue", name: "sorted" }, key: "a", ordered: true, delayMs: 0 });
  expect(Buffer.from(row?.body ?? []).toString()).toBe('{"id":"a"}');
  expect((await sent).id).toBe(row?.id);
  expect(row?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
});

test("ids ascend, and an id that was given comes with its time", async () => {
  const { calls, outbox } = noting();
  const receipts = await outbox.sendMany(
    "tx",
    orders,
    Array.from({ length: 100 }, (_, index) => ({ body: { id: `${index}` } })),
  );
  expect(receipts.map(({ id }) => id).toSorted()).toEqual(receipts.map(({ id }) => id));
  expect(calls).toHaveLength(1);
  await outbox.publish("tx", placed, { id: "a" }, { id: "own" });
  const row = calls[1]?.[1][0];
  expect(row?.id).toBe("own");
  expect(Number(row?.headers[HEADER.publishedAt])).toBeGreaterThan(0);
});

describe("what the broker would refuse is refused, and nothing is written", () => {
  const large = "x".repeat(2_000);
  const small = lesser({ maxMessageBytes: 1_000, maxHeaders: 1 });
  const without = (name: "order" | "ttl" | "priority" | "fanOut") => {
    const { note } = memory().capabilities[name];
    return lesser({ [name]: { support: "unsupported", note, levels: 1 } });
  };
  test.for<[string, () => Promise<unknown>, string, ReturnType<typeof noting>]>(
    (
      [
        ["a large body", small, (outbox) => outbox.send("tx", orders, { id: large }), "too-large"],
        [
          "many headers",
          small,
          (outbox) => outbox.send("tx", orders, { id: "a" }, { headers: { a: "1", b: "2" } }),
          "too-large",
        ],
        [
          "a schema",
          memory(),
          (outbox) => outbox.send("tx", queue("q", { schema: z.number() }), "no" as never),
          "invalid",
        ],
        [
          "a later schema",
          memory(),
          (outbox) => outbox.send("tx", queue("q", { schema: z.number().refine(async () => false) }), 1),
          "invalid",
        ],
        ["order", without("order"), (outbox) => outbox.send("tx", sorted, { id: "a" }), "unsupported"],
        [
          "a time to live",
          without("ttl"),
          (outbox) => outbox.send("tx", orders, { id: "a" }, { ttlMs: 1 }),
          "unsupported",
        ],
        ["topics", without("fanOut"), (outbox) => outbox.publish("tx", placed, { id: "a" }), "unsupported"],
        ["a priority", memory(), (outbox) => outbox.send("tx", orders, { id: "a" }, { priority: 2 }), "invalid"],
        [
          "a delay where order is kept",
          memory(),
          (outbox) => outbox.send("tx", sorted, { id: "a" }, { delayMs: 1 }),
          "invalid",
        ],
        [
          "a header of the engine's",
          memory(),
          (outbox) => outbox.send("tx", orders, { id: "a" }, { headers: { "anybroker-x": "1" } }),
          "invalid",
        ],
        [
          "an unknown option",
          memory(),
          (outbox) => outbox.send("tx", orders, { id: "a" }, { dealy: 1 } as never),
          "invalid",
        ],
        [
          "a deadline",
          memory(),
          (outbox) => outbox.send("tx", orders, { id: "a" }, { timeoutMs: 1 } as never),
          "invalid",
        ],
        [
          "a topic for a queue",
          memory(),
          (outbox) => outbox.send("tx", placed as never, { id: "a" } as never),
          "invalid",
        ],
        [
          "nothing for a queue",
          memory(),
          (outbox) => outbox.send("tx", undefined as never, { id: "a" } as never),
          "invalid",
        ],
        [
          "one of many",
          small,
          (outbox) => outbox.sendMany("tx", orders, [{ body: { id: "a" } }, { body: { id: large } }]),
          "too-large",
        ],
      ] as [string, Adapter, (outbox: ReturnType<typeof noting>["outbox"]) => Promise<unknown>, string][]
    ).map(([what, adapter, write, code]) => {
      const noted = noting(adapter);
      return [what, () => write(noted.outbox), code, noted];
    }),
  )("%s", async ([, write, code, { calls }]) => {
    await expect(write()).rejects.toMatchObject({ name: "MessagingError", code });
    expect(calls).toEqual([]);
  });
});

test("the error says which of many it is about", async () => {
  const { outbox } = noting(lesser({ maxMessageBytes: 10 }));
  const entries = [{ body: { id: "a" } }, { body: { id: "long enough" } }];
  await expect(outbox.sendMany("tx", orders, entries)).rejects.toThrow(/^entry 1: queue "orders"/);
});

test("the outbox has delays of any length, on any broker", async () => {
  const delay = { support: "unsupported", note: "none", maxMs: 0 } as const;
  const { calls, outbox } = noting(lesser({ delay }));
  const year = 365 * 24 * 60 * 60 * 1_000;
  const before = Date.now();
  await outbox.send("tx", orders, { id: "a" }, { delayMs: year, ttlMs: 1_000 });
  const row = calls[0]?.[1][0];
  expect(row?.delayMs).toBe(year);
  expect(row?.expiresAt).toBeGreaterThanOrEqual(before + year + 1_000);
  // It is the outbox that waits, and the broker gets it when it is due.
  expect(row?.headers[HEADER.dueAt]).toBeUndefined();
});

test("headers of every message go below those of the call", async () => {
  const trace = { now: "first" };
  const { calls, outbox } = noting(memory(), () => ({ traceparent: trace.now, tenant: "t" }));
  await outbox.send("tx", orders, { id: "a" });
  trace.now = "second";
  await outbox.send("tx", orders, { id: "a" }, { headers: { tenant: "own" } });
  expect(calls.map(([, [row]]) => ({ ...row?.headers }))).toEqual([
    { traceparent: "first", tenant: "t" },
    { traceparent: "second", tenant: "own" },
  ]);
});

test("a broker that discards what nobody wants says so in the row", async () => {
  const { calls, outbox } = noting();
  await outbox.publish("tx", topic<Order>("seldom", { whenUnroutable: "discard" }), { id: "a" });
  await outbox.publish("tx", placed, { id: "a" });
  expect(calls.map(([, [row]]) => row?.discardUnroutable)).toEqual([true, false]);
});

test("wrong options are refused", () => {
  const { broker } = noting();
  const store = { insert: () => undefined };
  const make = (options: object) => () => createOutbox(options as never);
  expect(make({ store, broker, extra: 1 })).toThrow('no option "extra"');
  expect(make({ broker })).toThrow("{ store }");
  expect(make({ store })).toThrow("{ broker }");
  expect(make({ store, broker, headers: {} })).toThrow("{ headers }");
});

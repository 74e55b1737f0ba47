import type { StandardSchemaV1 } from "@standard-schema/spec";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Publisher } from "../../core/broker.ts";
import { createBroker } from "../../core/create-broker.ts";
import { type Queue, queue, type Topic, topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { capabilities, LIMITS, RecordingAdapter } from "./recording-adapter.ts";

const CANARY = "canary-77ab";

interface Order {
  readonly id: string;
}

const schema: StandardSchemaV1<Order> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof (value as Order | null)?.id === "string"
        ? { value: value as Order }
        : { issues: [{ message: `not ${JSON.stringify(value)}`, path: ["id"] }] },
  },
};

const orders = queue("orders", { schema });
const plain = queue<unknown>("plain");
const ranked = queue("ranked", { schema, priorities: 3 });
const inOrder = queue("in-order", { schema, ordered: true });
const placed = topic("placed", { schema });
const keyless = queue<Order>("keyless", { key: () => 7 as unknown as string });
const throwing = queue<Order>("throwing", {
  key: () => {
    throw new Error("the key cannot be told");
  },
});
const ORDER = { id: "o-1" };
const LONE = "\ud800";

/** What is sent where, with which options, and how it is refused. */
const REFUSED: readonly (readonly [string, Queue<never, unknown> | Topic<never, unknown>, unknown, unknown, string])[] =
  [
    ["a body that the schema refuses", orders, { id: 7, secret: CANARY }, undefined, "invalid"],
    ["no body", orders, undefined, undefined, "invalid"],
    ["a body that JSON cannot carry", plain, { secret: CANARY, big: 1n }, undefined, "invalid"],
    ["an undefined body", plain, undefined, undefined, "invalid"],
    ["a body that reaches for a prototype", plain, JSON.parse('{"__proto__":{"a":1}}'), undefined, "invalid"],
    ["a body that is too large", plain, { secret: CANARY.repeat(200) }, undefined, "too-large"],
    ["an option that there is not", orders, ORDER, { delay: 5 }, "invalid"],
    ["a routing key for a queue", orders, ORDER, { routingKey: "a" }, "invalid"],
    ["a priority for a topic", placed, ORDER, { priority: 1 }, "invalid"],
    ["options that are none", orders, ORDER, null, "invalid"],
    ["options that are a number", orders, ORDER, 5_000, "invalid"],
    ["an empty id", orders, ORDER, { id: "" }, "invalid"],
    ["a long id", orders, ORDER, { id: "x".repeat(201) }, "invalid"],
    ["an id of two lines", orders, ORDER, { id: "a\nb" }, "invalid"],
    ["an id that is no text", orders, ORDER, { id: 7 }, "invalid"],
    ["an id that UTF-8 cannot carry", orders, ORDER, { id: LONE }, "invalid"],
    ["an empty key", orders, ORDER, { key: "" }, "invalid"],
    ["a long key", orders, ORDER, { key: "x".repeat(501) }, "invalid"],
    ["a key that UTF-8 cannot carry", orders, ORDER, { key: LONE }, "invalid"],
    ["a key function that gives no text", keyless, ORDER, undefined, "invalid"],
    ["a key function that throws", throwing, ORDER, undefined, "invalid"],
    ["headers that are none", orders, ORDER, { headers: null }, "invalid"],
    ["a header that is no text", orders, ORDER, { headers: { a: 1 } }, "invalid"],
    ["a header of two lines", orders, ORDER, { headers: { a: "b\r\nc" } }, "invalid"],
    ["a header without a name", orders, ORDER, { headers: { "": "b" } }, "invalid"],
    ["a header of ours", orders, ORDER, { headers: { "anybroker-attempts": "9" } }, "invalid"],
    ["a header that UTF-8 cannot carry", orders, ORDER, { headers: { a: LONE } }, "invalid"],
    ["too many headers", orders, ORDER, { headers: { a: "1", b: "2", c: "3", d: "4" } }, "too-large"],
    ["headers that are too large", orders, ORDER, { headers: { a: CANARY.repeat(20) } }, "too-large"],
    ["a negative delay", orders, ORDER, { delayMs: -1 }, "invalid"],
    ["a delay that is no integer", orders, ORDER, { delayMs: 0.5 }, "invalid"],
    ["a delay that is no number", orders, ORDER, { delayMs: "5" }, "invalid"],
    ["a delay that is an object", orders, ORDER, { delayMs: Object.create(null) }, "invalid"],
    ["a delay beyond all time", orders, ORDER, { delayMs: Number.MAX_SAFE_INTEGER }, "invalid"],
    ["a delay where there is order", inOrder, ORDER, { delayMs: 5 }, "invalid"],
    ["a time to live of nothing", orders, ORDER, { ttlMs: 0 }, "invalid"],
    ["a deadline of nothing", orders, ORDER, { timeoutMs: 0 }, "invalid"],
    ["a priority that the queue has not", ranked, ORDER, { priority: 3 }, "invalid"],
    ["a priority where there is none", orders, ORDER, { priority: 1 }, "invalid"],
    ["a routing key with an empty word", placed, ORDER, { routingKey: "a..b" }, "invalid"],
    ["a routing key with a wildcard", placed, ORDER, { routingKey: "a.*" }, "invalid"],
  ];

function hand(
  publisher: Publisher,
  to: Queue<never, unknown> | Topic<never, unknown>,
  body: unknown,
  options: unknown,
) {
  if (to.kind === "queue") return publisher.send(to, body as never, options as never);
  return publisher.publish(to, body as never, options as never);
}

it("a priority for a queue without says how to declare one with", async () => {
  const broker = createBroker(new RecordingAdapter());
  await broker.start();
  await expect(broker.send(orders, ORDER as never, { priority: 1 })).rejects.toThrow(
    /is for a queue with priorities, and it has none; declare it with priorities, as in queue\("orders", \{ priorities: 5 \}\)/,
  );
  await broker.stop();
});

describe("what is wrong with a message", () => {
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter);
  beforeAll(() => broker.start());
  beforeEach(() => {
    adapter.handed.length = 0;
  });
  afterAll(() => broker.stop());

  for (const [what, to, body, options, code] of REFUSED) {
    it(`refuses ${what} before anything is sent`, async () => {
      const error: unknown = await hand(broker, to, body, options).then(
        () => "sent",
        (error: unknown) => error,
      );
      expect(error).toBeInstanceOf(MessagingError);
      expect((error as MessagingError).code).toBe(code);
      expect((error as MessagingError).message).not.toContain(CANARY);
      expect(adapter.handed).toEqual([]);
    });
  }

  it("says how many headers, and where the codec refuses", async () => {
    const large = broker.send(plain, 1, { headers: { a: CANARY.repeat(20) } });
    await expect(large).rejects.toThrow(/too much for \S+: 1 header with \d+ bytes \(at most 3 headers/);
    const bytes = broker.send(plain, { a: Buffer.from("x") });
    await expect(bytes).rejects.toThrow(/the body cannot be encoded at a: JSON cannot carry bytes[^.]*text\. Nothing/);
  });

  it("refuses a queue where a topic is asked for, and the other way round", async () => {
    await expect(broker.send(placed as never, ORDER as never)).rejects.toMatchObject({ code: "invalid" });
    await expect(broker.publish(orders as never, ORDER as never)).rejects.toMatchObject({ code: "invalid" });
    await expect(broker.send(undefined as never, ORDER as never)).rejects.toMatchObject({ code: "invalid" });
    expect(adapter.handed).toEqual([]);
  });

  it("refuses by name what the broker cannot do", async () => {
    const bare = new RecordingAdapter(LIMITS, capabilities("delay", "ttl", "priority", "order", "fanOut", "durable"));
    const broker = createBroker(bare);
    await broker.start();
    const refused: readonly (readonly [Queue<never, unknown> | Topic<never, unknown>, unknown, string])[] = [
      [orders, { delayMs: 5 }, "delay"],
      [orders, { ttlMs: 5 }, "ttl"],
      [ranked, { priority: 1 }, "priority"],
      [inOrder, undefined, "order"],
      [placed, undefined, "fanOut"],
      [queue("kept", { durable: true }), undefined, "durable"],
      [queue("short", { ttlMs: 5 }), undefined, "ttl"],
    ];
    for (const [to, options, name] of refused) {
      const expected = { code: "unsupported", message: expect.stringContaining(name) };
      await expect(hand(broker, to, ORDER, options)).rejects.toMatchObject(expected);
    }
    expect(bare.handed).toEqual([]);
    await broker.stop();
  });

  it("fails one of many alone, and says which", async () => {
    const entries = [
      { body: ORDER },
      { body: { id: 7 } as unknown as Order },
      { body: ORDER, options: { id: "mine" } },
    ];
    const failing = broker.sendMany(orders, entries);
    await expect(failing).rejects.toMatchObject({
      code: "partly-failed",
      outcomes: [
        { status: "confirmed" },
        { status: "failed", error: { code: "invalid" } },
        { status: "confirmed", id: "mine" },
      ],
    });
    expect(adapter.handed.flatMap(({ batch }) => batch)).toHaveLength(2);
  });

  it("lets a message live until its delay is over and its time to live after that", async () => {
    await broker.send(orders, ORDER, { delayMs: 5_000, ttlMs: 1_000 });
    expect(adapter.handed[0]?.batch[0]).toMatchObject({ delayMs: 5_000, ttlMs: 6_000 });
  });
});

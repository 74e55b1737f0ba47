// User code may throw, reject with and return anything. Nothing of it ends the process or stops a consumer.
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memory } from "../../adapters/memory/index.ts";
import type { Adapter } from "../../core/adapter.ts";
import type { Codec } from "../../core/codec.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Handler, Middleware } from "../../core/delivery.ts";
import { queue, topic } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { isThenable, observe, thrownClass, thrownText } from "../../core/foreign.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
beforeAll(() => void process.on("unhandledRejection", onUnhandled));
afterAll(async () => {
  await new Promise((resolve) => setTimeout(resolve, 0));
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled).toEqual([]);
});

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

class Throwing extends Error {
  override get message(): string {
    throw new Error("no message");
  }
}

/** Each is made anew, since some can be looked at only once. */
const HORRORS: readonly (readonly [string, () => unknown])[] = [
  ["undefined", () => undefined],
  ["a symbol", () => Symbol("s")],
  ["a BigInt", () => 1n],
  ["an object without a prototype", () => Object.create(null)],
  ["an error whose message is an object", () => Object.assign(new Error(), { message: Object.create(null) })],
  ["an error whose message throws", () => new Throwing()],
  ["an error whose name is a number", () => Object.assign(new Error("x"), { name: 7 })],
  ["an error of no class", () => Object.assign(new Error("x"), { constructor: undefined })],
  ["a toString that throws", () => ({ toString: () => expect.unreachable() })],
  ["a toString that is no function", () => ({ toString: 1, valueOf: 1 })],
  ["a revoked proxy", revoked],
];

/** What a handler may return. */
const RESULTS: readonly (readonly [string, () => unknown])[] = [
  ...HORRORS,
  [
    "an object whose then throws when it is read",
    () =>
      // biome-ignore lint/suspicious/noThenProperty: it is what is tried
      Object.defineProperty({}, "then", {
        get() {
          throw new Error("then");
        },
      }),
  ],
  [
    "a thenable that throws",
    () => ({
      // biome-ignore lint/suspicious/noThenProperty: it is what is tried
      then() {
        throw new Error("then");
      },
    }),
  ],
  ["an outcome that throws when it is read", () => new Proxy({}, { get: () => expect.unreachable() })],
  ["an outcome without a reason", () => ({ [Symbol.for("anybroker.outcome")]: "dead-letter" })],
  ["an outcome of nonsense", () => ({ [Symbol.for("anybroker.outcome")]: {}, afterMs: Number.NaN })],
];

describe("what was thrown", () => {
  it.each(HORRORS)("can be told of %s", (_, make) => {
    expect(typeof thrownText(make())).toBe("string");
    expect(thrownClass(make())).toMatch(/./);
    expect(isMessagingError(make())).toBe(false);
    expect(isThenable(make())).toBe(false);
  });
});

describe("a handler", () => {
  const kinds: readonly [string, (make: () => unknown) => () => unknown][] = [
    [
      "throws",
      (make) => () => {
        throw make();
      },
    ],
    ["rejects with", (make) => () => Promise.reject(make())],
    ["returns", (make) => make],
    ["resolves with", (make) => () => Promise.resolve({ make }).then(({ make }) => make())],
  ];
  const cases = kinds.flatMap(([how, wrap]) => RESULTS.map(([what, make]) => [how, what, wrap(make)] as const));

  it.each(cases)("that %s %s stops no consumer", async (_how, _what, run) => {
    const broker = createBroker(memory(), { onEvent: () => {} });
    const orders = queue<number>("orders");
    let others = 0;
    const handler = (n: number): unknown => (n === 0 ? run() : void others++);
    const consumer = broker.consume(orders, handler as Handler<number>, { retry: { attempts: 1 }, concurrency: 2 });
    await broker.start();
    for (let n = 0; n < 5; n++) await broker.send(orders, n);
    await expect.poll(() => consumer.status().succeeded + consumer.status().deadLettered).toBe(5);
    await expect.poll(() => consumer.status().unsettled).toBe(0);
    expect(others).toBe(4);
    expect(consumer.status()).toMatchObject({ running: 0, state: "running" });
    await broker.stop();
  });
});

describe("an observer", () => {
  it("that is asynchronous and fails disturbs nothing", async () => {
    const seen: BrokerEvent[] = [];
    const onEvent = async (event: BrokerEvent): Promise<void> => {
      seen.push(event);
      throw new Error("no observer");
    };
    const broker = createBroker(memory(), { onEvent });
    const orders = queue<number>("orders");
    const consumer = broker.consume(
      orders,
      () => {
        throw new Error("no stock");
      },
      { retry: { attempts: 1 } },
    );
    await broker.start();
    await broker.send(orders, 1);
    await expect.poll(() => consumer.status().deadLettered).toBe(1);
    expect(seen.map(({ type }) => type)).toContain("dead-lettered");
    await broker.stop();
  });

  it.each(RESULTS)("may return or throw %s", (_, make) => {
    observe(make, 1);
    observe(() => {
      throw make();
    }, 1);
    observe(() => Promise.reject(make()), 1);
  });
});

describe("a codec", () => {
  const codec = (changes: object): Codec =>
    ({ contentType: "x/y", encode: () => new Uint8Array(1), decode: () => 1, ...changes }) as Codec;

  it.each([
    ["undefined", () => undefined],
    ["a text", () => "bytes"],
    ["a promise", () => Promise.resolve(new Uint8Array(1))],
    ["a promise that rejects", () => Promise.reject(new Error("late"))],
    ["an array", () => [1, 2]],
  ])("whose encode returns %s is refused before anything is sent", async (_, encode) => {
    const adapter = new RecordingAdapter();
    const broker = createBroker(adapter);
    await broker.start();
    const orders = queue<number>("orders", { codec: codec({ encode }) });
    await expect(broker.send(orders, 1)).rejects.toMatchObject({ code: "invalid" });
    expect(adapter.handed).toEqual([]);
    expect(broker.status().publishing).toEqual({ messages: 0, bytes: 0, waiting: 0 });
    await broker.stop();
  });

  it("that decodes to a promise, or quotes the body in what it throws, makes a dead letter that does not", async () => {
    const events: BrokerEvent[] = [];
    for (const decode of [
      () => Promise.reject(new Error("secret")),
      () => {
        throw new SyntaxError("secret");
      },
    ]) {
      const broker = createBroker(memory(), { onEvent: (event) => events.push(event) });
      const orders = queue<number>("orders", { codec: codec({ decode }) });
      const consumer = broker.consume(orders, () => {});
      await broker.start();
      await broker.send(orders, 1);
      await expect.poll(() => consumer.status().deadLettered).toBe(1);
      await broker.stop();
    }
    const errors = events.flatMap((event) => (event.type === "dead-lettered" ? thrownText(event.error) : []));
    expect(errors).toHaveLength(2);
    for (const text of errors) expect(text).not.toContain("secret");
  });
});

describe("key, routing key and schema", () => {
  const world = async () => {
    const time = new VirtualTime();
    const adapter = new RecordingAdapter();
    const broker = createBroker(adapter, { clock: new ProcessClock(time), random: new Prng("foreign") });
    let isStarted = false;
    broker.start().then(() => {
      isStarted = true;
    });
    await time.until(() => isStarted, 1_000);
    return { time, adapter, broker };
  };
  const schemaOf = (validate: (value: unknown) => unknown) =>
    ({ "~standard": { version: 1, vendor: "test", validate } }) as StandardSchemaV1<unknown, unknown>;

  it.each(RESULTS.filter(([what]) => what !== "undefined"))("that give %s are refused", async (_, make) => {
    const { adapter, broker } = await world();
    const key = queue<unknown>("by-key", { key: make as () => string });
    const routingKey = topic<unknown>("by-routing-key", { routingKey: make as () => string });
    const schema = queue("by-schema", { schema: schemaOf(make) });
    for (const send of [broker.send(key, 1), broker.publish(routingKey, 1), broker.send(schema, 1)]) {
      await expect(send).rejects.toMatchObject({ code: "invalid" });
    }
    expect(adapter.handed).toEqual([]);
  });

  it("of a schema that never answers ends a send when its time is over, and sends nothing", async () => {
    const { time, adapter, broker } = await world();
    const orders = queue("orders", { schema: schemaOf(() => new Promise(() => {})) });
    let error: unknown;
    broker.send(orders, 1, { timeoutMs: 2_000 }).catch((cause: unknown) => {
      error = cause;
    });
    expect(await time.until(() => error !== undefined, 10_000)).toBe(true);
    expect(error).toMatchObject({ code: "timeout" });
    expect(time.now).toBe(2_000);
    expect(adapter.handed).toEqual([]);
  });

  it("of a schema shows where it is broken, and none of what stands there", async () => {
    const { broker } = await world();
    const refuses = (path: StandardSchemaV1.Issue["path"], jsonSchema?: object) => {
      const schema = schemaOf(() => ({ issues: [{ message: "the value 4711 is no good", path: path ?? [] }] }));
      return queue(`refuses-${JSON.stringify(path).length}-${jsonSchema === undefined}`, {
        schema: jsonSchema === undefined ? schema : { "~standard": { ...schema["~standard"], jsonSchema } as never },
      });
    };
    const told = async (to: ReturnType<typeof refuses>): Promise<string> =>
      broker.send(to, 1).then(String, ({ message }) => message.replace(/.*refuses the body at /, "").split(".  ")[0]);
    expect(await told(refuses(["items", 3, "price"]))).toMatch(/^items\.3\.price\./);
    expect(await told(refuses(["byEmail", "ann@example.com\nforged", "price"]))).toMatch(/^byEmail\.\[key\]\.price\./);
    expect(await told(refuses(["x".repeat(5_000_000)]))).toMatch(/^\[key\]\./);
    expect(await told(refuses([{ key: Symbol("s") }, Object.create(null)] as never))).toMatch(/^\[key\]\.\[key\]\./);
    expect((await told(refuses(Array(1_000).fill("deep")))).length).toBeLessThan(300);
    const known = { input: () => ({ properties: { byName: { additionalProperties: { properties: { age: {} } } } } }) };
    expect(await told(refuses(["byName", "ann", "age"], known))).toMatch(/^byName\.\[key\]\.age\./);
  });
});

describe("middleware, options and clocks", () => {
  it.each([undefined, 1, {}, Promise.resolve(() => {})])("a middleware that returns %s is refused", async (made) => {
    const broker = createBroker(memory());
    const use = [(() => made) as unknown as Middleware];
    expect(() => broker.consume(queue("orders"), () => {}, { use })).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
    const rejecting = [(async () => Promise.reject(new Error("no middleware"))) as unknown as Middleware];
    expect(() => broker.consume(queue("orders"), () => {}, { use: rejecting })).toThrow(/no handler/);
  });

  it.each([Number.NaN, -1, Number.POSITIVE_INFINITY, "1", null])("a consumer takes no %s for its stop", (timeoutMs) => {
    const consumer = createBroker(memory()).consume(queue("orders"), () => {});
    expect(() => consumer.stop({ timeoutMs: timeoutMs as number })).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });

  it("delivers at once, and later what is to come later, with a clock of before 1970", async () => {
    const time = new VirtualTime();
    const clock = new ProcessClock(time);
    clock.now = () => Math.floor(time.now) - 1_000_000;
    const adapter = new RecordingAdapter();
    const broker = createBroker(adapter, { clock, random: new Prng("1969") });
    const handled: string[] = [];
    broker.consume(
      queue("orders"),
      (_, { id, firstPublishedAt }) => void handled.push(`${id} ${firstPublishedAt.getTime()}`),
    );
    let isStarted = false;
    broker.start().then(() => {
      isStarted = true;
    });
    await time.until(() => isStarted, 1_000);
    const headers = (pairs: Record<string, string>) => Object.assign(Object.create(null), pairs);
    adapter.opened[0]?.sink.deliver([
      incoming("now"),
      incoming("due", { headers: headers({ "anybroker-due-at": "-1000001" }) }),
      incoming("later", { headers: headers({ "anybroker-due-at": "-990000" }) }),
      incoming("dated", { headers: headers({ "anybroker-published-at": "9007199254740991" }) }),
      incoming("endless", { headers: headers({ "anybroker-expires-at": "9007199254740991" }) }),
    ]);
    await settled();
    expect(handled).toEqual(["now -1000000", "due -1000000", "dated -1000000", "endless -1000000"]);
    expect(adapter.handed.map(({ batch }) => [batch[0]?.id, batch[0]?.delayMs])).toEqual([["later", 10_000]]);
  });
});

describe("a consumer that is made while everything runs", () => {
  it("has declared only what it needs, and leaves nothing behind", async () => {
    const adapter = new RecordingAdapter();
    const declared: number[] = [];
    (adapter as Adapter).declare = async ({ queues, topics, subscriptions }) => {
      declared.push(queues.length + topics.length + subscriptions.length);
      return [];
    };
    const broker = createBroker(adapter, { destinations: [queue("first"), queue("second")] });
    await broker.start();
    for (let n = 0; n < 50; n++) broker.consume(queue(`late-${n}`), () => {});
    broker.subscribe(topic("placed"), "late", () => {});
    await expect.poll(() => broker.status().consumers.filter(({ state }) => state === "running").length).toBe(51);
    expect(declared).toEqual([2, ...Array(50).fill(1), 2]);
    await broker.stop();
  });

  it("says what keeps it from starting, and keeps no other", async () => {
    const adapter = new RecordingAdapter();
    adapter.physical = (address) => (address.kind === "queue" ? address.name.toLowerCase() : JSON.stringify(address));
    const broker = createBroker(adapter, { destinations: [queue("orders")] });
    await broker.start();
    const wrong = broker.consume(queue("Orders"), () => {});
    const right = broker.consume(queue("others"), () => {});
    await expect.poll(() => [wrong.status().state, right.status().state]).toEqual(["stalled", "running"]);
    expect(wrong.status().error?.message).toContain("Rename one of them");
    await broker.stop();
  });
});

import { admitByDepth, circuitBreaker, rateLimit, retryBudget } from "anybroker/backpressure";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { memory, memorySpace } from "anybroker/memory";
import { memoryMigrationStore } from "anybroker/migration";
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../core/clock.ts";
import { jsonCodec } from "../../core/codec.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue, topic } from "../../core/destination.ts";
import { eventually } from "../eventually.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

const orders = queue<number>("orders");

describe("options of the wrong shape are refused by name", () => {
  const WRONG = [null, 5, "now", {}, { now: Date.now }, { ...systemClock(), cancel: undefined }, () => 5];
  const broker = createBroker(memory());
  const takers: readonly (readonly [option: string, take: (given: never) => unknown])[] = [
    ["createBroker { clock }", (clock) => createBroker(memory(), { clock })],
    ["createBroker { random }", (random) => createBroker(memory(), { random })],
    ["memorySpace { clock }", (clock) => memorySpace({ clock })],
    ["rateLimit { clock }", (clock) => rateLimit({ perSecond: 1, clock })],
    ["retryBudget { clock }", (clock) => retryBudget({ clock })],
    ["retryBudget { random }", (random) => retryBudget({ random })],
    ["circuitBreaker { clock }", (clock) => circuitBreaker({ isOutage: () => true, clock })],
    ["circuitBreaker { random }", (random) => circuitBreaker({ isOutage: () => true, random })],
    ["admitByDepth { clock }", (clock) => admitByDepth(broker, { limits: [], clock })],
    ["idempotent { clock }", (clock) => idempotent(memoryIdempotencyStore(), { leaseMs: 1_000, clock })],
    ["memoryIdempotencyStore { clock }", (clock) => memoryIdempotencyStore({ clock })],
    ["memoryMigrationStore { clock }", (clock) => memoryMigrationStore({ clock })],
  ];
  test.for(takers)("%s", ([option, take]) => {
    for (const wrong of WRONG) {
      expect(() => take(wrong as never)).toThrow(
        expect.objectContaining({ code: "invalid", message: expect.stringContaining(`${option} takes`) }),
      );
    }
  });
});

test("what is no list of entries is refused as a whole, and nothing is sent", async () => {
  const placed = topic<number>("placed");
  const broker = createBroker(memory(), { destinations: [orders, placed] });
  onTestFinished(() => broker.stop());
  await broker.start();
  for (const wrong of [undefined, null, 5, "text", { body: 1 }, new Set([{ body: 1 }])]) {
    await expect(broker.sendMany(orders, wrong as never)).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("sendMany takes a list of { body, options }"),
    });
    await expect(broker.publishMany(placed, wrong as never)).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("publishMany takes a list"),
    });
  }
  for (const wrong of [null, 7, undefined]) {
    await expect(broker.sendMany(orders, [{ body: 1 }, wrong as never])).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("entry 1 is none"),
    });
  }
  expect(await broker.depth(orders)).toMatchObject({ ready: 0 });
});

test("a codec whose content type no broker could carry is refused by queue() and topic()", () => {
  const { encode, decode } = jsonCodec();
  for (const contentType of [undefined, 5, {}, "", "a/b\r\nc: d", "a/\ud800", "x".repeat(256)]) {
    const codec = { contentType, encode, decode } as never;
    for (const make of [() => queue("orders", { codec }), () => topic("placed", { codec })]) {
      expect(make).toThrow(
        expect.objectContaining({
          code: "invalid",
          message: expect.stringContaining("{ codec: { contentType } } takes"),
        }),
      );
    }
  }
  expect(() => queue("orders", { codec: null as never })).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("a handler whose result cannot be looked at has failed, as if it were awaited", async () => {
  const broker = createBroker(memory(), { destinations: [orders] });
  onTestFinished(() => broker.stop());
  const thrown = new RangeError("do not look");
  const hidden = new Proxy(
    {},
    {
      get: () => {
        throw thrown;
      },
    },
  );
  const results = [() => hidden, async () => hidden];
  for (const [index, result] of results.entries()) {
    const each = queue<number>(`orders-${index}`);
    broker.consume(each, result as never, { retry: { attempts: 1 } });
  }
  await broker.start();
  for (const index of results.keys()) await broker.send(queue<number>(`orders-${index}`), 1);
  await eventually(() => {
    expect(broker.status().consumers.map(({ deadLettered, succeeded }) => ({ deadLettered, succeeded }))).toEqual([
      { deadLettered: 1, succeeded: 0 },
      { deadLettered: 1, succeeded: 0 },
    ]);
  });
});

test("a handler that writes on its delivery changes nothing of what the engine knows", async () => {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter, { clock: new ProcessClock(time), random: new Prng("wrong-shapes") });
  const consumer = broker.consume(
    orders,
    (_, delivery) => {
      Object.assign(delivery, { abandoned: true, current: undefined, state: "over" });
      expect(Object.keys(delivery)).not.toContain("signal");
      expect("abort" in delivery).toBe(false);
    },
    { concurrency: 1 },
  );
  let started = false;
  broker.start().then(() => {
    started = true;
  });
  await time.until(() => started, 60_000);
  adapter.opened[0]?.sink.deliver([incoming("first"), incoming("second")]);
  await settled();
  expect(consumer.status()).toMatchObject({ succeeded: 2, abandoned: 0 });
});

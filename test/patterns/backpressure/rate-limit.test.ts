import type { StandardSchemaV1 } from "@standard-schema/spec";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Delivery } from "../../../core/delivery.ts";
import { queue } from "../../../core/destination.ts";
import { controlIntake, rateLimit } from "../../../patterns/backpressure/index.ts";
import { TokenBucket } from "../../../patterns/backpressure/rate-limit.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<{ n: number }>("orders");
const inOrder = queue<{ n: number }>("in-order", { ordered: true, key: ({ n }) => `key-${n % 3}` });

/** A schema that answers later. */
const unhurried: StandardSchemaV1<number> = {
  "~standard": { version: 1, vendor: "test", validate: async (value) => ({ value: value as number }) },
};

/** The most starts in any time of `spanMs`. */
function mostWithin(starts: readonly number[], spanMs: number): number {
  return Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + spanMs).length));
}

describe("TokenBucket", () => {
  it("gives the burst and the rate in any time, and no more, to those who wait", () => {
    const calls = fc.array(fc.nat({ max: 500 }), { minLength: 1, maxLength: 100 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 20 }),
        calls,
        (perSecond, burst, gaps) => {
          const bucket = new TokenBucket(perSecond, burst);
          let now = 0;
          const starts: number[] = [];
          for (const gap of gaps) {
            now += gap;
            starts.push(now + bucket.waitMs(now));
            bucket.take(now);
          }
          for (const from of starts) {
            for (const to of starts.filter((at) => at >= from)) {
              const within = starts.filter((at) => at >= from && at <= to).length;
              expect(within).toBeLessThanOrEqual(burst + ((to - from) * perSecond) / 1_000 + 1e-6);
            }
          }
        },
      ),
    );
  });

  it("has a whole burst again after a quiet time", () => {
    const bucket = new TokenBucket(10, 3);
    const takes = (now: number): number[] =>
      [1, 2, 3, 4].map(() => {
        const waitMs = bucket.waitMs(now);
        bucket.take(now);
        return waitMs;
      });
    expect(takes(0)).toEqual([0, 0, 0, 100]);
    expect(takes(1_000)).toEqual([0, 0, 0, 100]);
  });
});

describe("rateLimit", () => {
  it.for([
    { perSecond: 200, burst: 1, concurrency: 50 },
    { perSecond: 20, burst: 5, concurrency: 50 },
    { perSecond: 5, burst: 10, concurrency: 10 },
    { perSecond: 0.5, burst: 2, concurrency: 10 },
  ])("starts $perSecond per second, with $burst at once, and loses none", async ({ perSecond, burst, concurrency }) => {
    const { broker, clock, finish, until } = virtualWorld("rate");
    const starts: number[] = [];
    const limit = rateLimit({ perSecond, burst, clock });
    const consumer = controlIntake([limit], (use) =>
      broker.consume(orders, () => void starts.push(clock.monotonic()), { use, concurrency }),
    );
    await finish(broker.start());
    const count = 60;
    await finish(
      broker.sendMany(
        orders,
        Array.from({ length: count }, (_, n) => ({ body: { n } })),
      ),
    );
    await until(() => starts.length === count);
    for (const spanMs of [1_000, 4_000, 20_000]) {
      expect(mostWithin(starts, spanMs)).toBeLessThanOrEqual(Math.ceil(burst + (perSecond * spanMs) / 1_000));
    }
    // It does not lag behind its rate either.
    const took = (starts.at(-1) as number) - (starts[0] as number);
    expect(took).toBeLessThanOrEqual(((count - burst) / perSecond) * 1_000 + 1);
    expect(consumer.status()).toMatchObject({ failed: 0, retried: 0, postponed: 0 });
    await finish(broker.stop());
    // A hold looks now and then whether its consumer is still there.
    await until(() => clock.pending === 0);
    expect(clock.monotonic() - (starts.at(-1) as number)).toBeLessThanOrEqual(1_000);
  });

  it("keeps to it where a schema takes its time, and uses up no attempt", async () => {
    const { broker, clock, finish, until } = virtualWorld("schema");
    const slow = queue("slow", { schema: unhurried });
    const starts: number[] = [];
    const attempts: number[] = [];
    const consumer = controlIntake([rateLimit({ perSecond: 0.5, clock })], (use) =>
      broker.consume(
        slow,
        (_, { attempt }) => {
          starts.push(clock.monotonic());
          attempts.push(attempt);
        },
        { use },
      ),
    );
    await finish(broker.start());
    for (let n = 0; n < 8; n++) await finish(broker.send(slow, n));
    await until(() => starts.length === 8);
    expect(mostWithin(starts, 1_999)).toBe(1);
    expect(new Set(attempts)).toEqual(new Set([1]));
    expect(consumer.status().failed).toBe(0);
    await finish(broker.stop());
  });

  it("keeps the order of keys", async () => {
    const { broker, clock, finish, until } = virtualWorld("ordered");
    const seen: number[] = [];
    controlIntake([rateLimit({ perSecond: 3, burst: 2, clock })], (use) =>
      broker.consume(inOrder, ({ n }) => void seen.push(n), { use }),
    );
    await finish(broker.start());
    for (let n = 0; n < 24; n++) await finish(broker.send(inOrder, { n }));
    await until(() => seen.length === 24);
    for (const key of [0, 1, 2]) {
      const own = seen.filter((n) => n % 3 === key);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
    await finish(broker.stop());
  });

  it("holds up no stop, and gives back what waits", async () => {
    const { broker, another, clock, finish, until, time } = virtualWorld("stop");
    const observer = another({ destinations: [orders] });
    await finish(observer.start());
    const started: Delivery[] = [];
    controlIntake([rateLimit({ perSecond: 0.01, clock })], (use) =>
      broker.consume(orders, (_, delivery) => void started.push(delivery), { use }),
    );
    await finish(broker.start());
    for (let n = 0; n < 5; n++) await finish(broker.send(orders, { n }));
    await until(() => started.length === 1);
    const before = time.now;
    await finish(broker.stop());
    expect(time.now - before).toBeLessThanOrEqual(1_000);
    expect(await finish(observer.depth(orders))).toMatchObject({ ready: 4, unsettled: 0 });
    // Neither a timer nor a hold is left: started again, it goes on, by the same limit.
    await until(() => clock.pending === 0);
    await finish(broker.start());
    await until(() => started.length === 2);
    expect(time.now - before).toBeGreaterThan(90_000);
    await finish(broker.stop());
    await finish(observer.stop());
  });

  it("is shared by the consumers that share it", async () => {
    const { broker, clock, finish, until } = virtualWorld("shared");
    const starts: number[] = [];
    const limit = rateLimit({ perSecond: 4, clock });
    for (const source of [orders, inOrder]) {
      controlIntake([limit], (use) => broker.consume(source, () => void starts.push(clock.monotonic()), { use }));
    }
    await finish(broker.start());
    for (let n = 0; n < 10; n++) {
      await finish(broker.send(orders, { n }));
      await finish(broker.send(inOrder, { n }));
    }
    await until(() => starts.length === 20);
    expect(mostWithin(starts, 1_000)).toBeLessThanOrEqual(5);
    await finish(broker.stop());
  });

  it("refuses what makes no sense", () => {
    for (const wrong of [{ perSecond: 0 }, { perSecond: Number.NaN }, { perSecond: 1, burst: 0 }, { rate: 5 }, {}]) {
      expect(() => rateLimit(wrong as never), JSON.stringify(wrong)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});

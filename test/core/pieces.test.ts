import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { memory } from "../../adapters/memory/index.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import { Prefetch } from "../../core/consume/in-flight.ts";
import { createBroker } from "../../core/create-broker.ts";
import { Deadlines, type Expiring } from "../../core/deadlines.ts";
import { queue } from "../../core/destination.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { Fifo } from "../../core/fifo.ts";
import { idTime, messageIds } from "../../core/message-ids.ts";
import { retryPolicy } from "../../core/retry-policy.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";

describe("Fifo", () => {
  it("behaves as an array does", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("push" as const), items: fc.array(fc.nat(), { minLength: 1, maxLength: 3_000 }) }),
      fc.record({ kind: fc.constant("shift" as const), count: fc.nat({ max: 3_000 }) }),
      fc.record({ kind: fc.constant("back" as const), items: fc.array(fc.nat(), { maxLength: 3 }) }),
      fc.record({ kind: fc.constant("clear" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const fifo = new Fifo<number>();
        let model: number[] = [];
        for (const step of steps) {
          if (step.kind === "push") {
            for (const item of step.items) fifo.push(item);
            model.push(...step.items);
          } else if (step.kind === "shift") {
            for (let count = 0; count < step.count; count++) expect(fifo.shift()).toBe(model.shift());
          } else if (step.kind === "back") {
            fifo.putBack(step.items);
            model.unshift(...step.items);
          } else {
            fifo.clear();
            model = [];
          }
          expect(fifo.size).toBe(model.length);
          expect(fifo.peek()).toBe(model[0]);
          expect([...fifo]).toEqual(model);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe("Deadlines", () => {
  it("expires exactly what was not lifted, when it is due and never before", async () => {
    const entry = fc.record({
      at: fc.nat({ max: 50 }),
      ms: fc.constantFrom(0, 5, 20),
      liftedAfter: fc.option(fc.nat({ max: 40 }), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 30 }), async (entries) => {
        const time = new VirtualTime();
        const deadlines = new Deadlines(new ProcessClock(time));
        const expired = new Map<number, number>();
        for (const [index, { at, ms, liftedAfter }] of entries.entries()) {
          const item: Expiring = {
            deadline: undefined,
            expire: () => {
              expect(expired.has(index)).toBe(false);
              expired.set(index, time.now);
            },
          };
          time.schedule(() => deadlines.set(item, ms), at);
          // Half a millisecond apart, so that nothing is lifted and due at once.
          if (liftedAfter !== undefined) time.schedule(() => deadlines.lift(item), at + liftedAfter + 0.5);
        }
        await time.until(() => false, 1_000);
        for (const [index, { at, ms, liftedAfter }] of entries.entries()) {
          const lifted = liftedAfter !== undefined && liftedAfter < ms;
          expect(expired.get(index)).toBe(lifted ? undefined : at + ms);
        }
        expect(deadlines.items()).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  it("leaves no timer when it is cleared, not even by what expires", async () => {
    const time = new VirtualTime();
    const clock = new ProcessClock(time);
    const deadlines = new Deadlines(clock);
    const expired: string[] = [];
    const item = (name: string, then = () => {}): Expiring => ({
      deadline: undefined,
      expire: () => {
        expired.push(name);
        then();
      },
    });
    deadlines.set(
      item("first", () => deadlines.clear()),
      10,
    );
    deadlines.set(item("same"), 10);
    deadlines.set(item("later"), 20);
    await time.until(() => false, 100);
    expect(expired).toEqual(["first"]);
    expect(clock.pending).toBe(0);
  });
});

describe("retryPolicy", () => {
  const told: MessagingError[] = [];
  const retryContext = (seed: string) => ({
    random: new Prng(seed),
    notice: (error: MessagingError) => void told.push(error),
  });

  it("never waits less than the plain delay, nor more than the longest with all its jitter", () => {
    const policy = fc.record({
      firstMs: fc.nat({ max: 100_000 }),
      factor: fc.double({ min: 1, max: 10, noNaN: true }),
      maxMs: fc.integer({ min: 100_000, max: 1_000_000 }),
      jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(policy, fc.integer({ min: 1, max: 100_000 }), fc.string(), (delay, attempt, seed) => {
        const { delayMs } = retryPolicy("here", { delay }, retryContext(seed));
        const plain = delay.firstMs === 0 ? 0 : Math.min(delay.firstMs * delay.factor ** (attempt - 1), delay.maxMs);
        const drawn = delayMs(attempt);
        expect(Number.isInteger(drawn)).toBe(true);
        expect(drawn).toBeGreaterThanOrEqual(plain);
        expect(drawn).toBeLessThanOrEqual(Math.ceil(plain * (1 + delay.jitter)));
      }),
    );
  });

  it("spreads what failed together over as much time again as the delay, unless told otherwise", () => {
    const { delayMs } = retryPolicy("here", {}, retryContext("herd"));
    const drawn = Array.from({ length: 1_000 }, () => delayMs(3));
    // The third delay is 4 s: chance adds up to 4 s, evenly.
    const perSecond = [4_000, 5_000, 6_000, 7_000].map(
      (from) => drawn.filter((ms) => ms >= from && ms < from + 1_000).length,
    );
    for (const count of perSecond) expect(count).toBeGreaterThan(150);
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(4_000);
    expect(Math.max(...drawn)).toBeLessThanOrEqual(8_000);
  });

  it("stays immediate after as many attempts as one likes", () => {
    const { delayMs } = retryPolicy("here", { attempts: 1e9, delay: { firstMs: 0 } }, retryContext("a"));
    expect(delayMs(5_000)).toBe(0);
  });

  it("takes a list at its word, and its last delay for all further retries", () => {
    const given = [2_000, 10_000];
    const retry = retryPolicy("here", { delay: given }, retryContext("a"));
    given.push(99);
    expect(retry.attempts).toBe(3);
    expect([1, 2, 3, 40].map((attempt) => retry.delayMs(attempt))).toEqual([2_000, 10_000, 10_000, 10_000]);
    expect(retryPolicy("here", { attempts: 7, delay: given }, retryContext("a")).attempts).toBe(7);
    expect(retryPolicy("here", { delay: () => 1 }, { ...retryContext("a"), attempts: 10 }).attempts).toBe(10);
  });

  it("takes a function at its word, in whole milliseconds", () => {
    const { delayMs } = retryPolicy("here", { delay: (attempt) => attempt * 1.5 }, retryContext("a"));
    expect([1, 2, 3].map(delayMs)).toEqual([2, 3, 5]);
    expect(retryPolicy("here", { delay: () => Number.MAX_VALUE }, retryContext("a")).delayMs(1)).toBe(LONGEST_MS);
  });

  it.each<[string, () => unknown, string]>([
    [
      "throws",
      () => {
        throw new RangeError("no");
      },
      "threw RangeError",
    ],
    ["returns no number", () => Number.NaN, "returned NaN"],
    ["returns less than nothing", () => -1, "returned -1"],
    ["returns for ever", () => Number.POSITIVE_INFINITY, "returned Infinity"],
    ["returns nothing", () => undefined, "returned a value of type undefined"],
    [
      "is asynchronous and fails",
      async () => {
        throw new Error("no");
      },
      "returned a value of type object",
    ],
  ])("waits the default delay, and says so, where a function %s", (_, delay, what) => {
    told.length = 0;
    const { delayMs } = retryPolicy("here", { delay: delay as () => number }, retryContext("a"));
    expect(delayMs(2)).toBeGreaterThanOrEqual(2_000);
    expect(delayMs(2)).toBeLessThanOrEqual(4_000);
    expect(told).toHaveLength(2);
    expect(told[0]).toMatchObject({ code: "invalid", message: expect.stringContaining(what) });
  });

  it("lifts the default of one bound to the other, and refuses a first delay over the longest", () => {
    const plain = (delay: object) => retryPolicy("here", { delay: { jitter: 0, ...delay } }, retryContext("a")).delayMs;
    expect([1, 2].map(plain({ firstMs: 120_000 }))).toEqual([120_000, 120_000]);
    expect([1, 2].map(plain({ maxMs: 500 }))).toEqual([500, 500]);
    expect(() => plain({ firstMs: 2_000, maxMs: 1_000 })).toThrow(/firstMs \} is 2000, and maxMs.* is 1000/);
  });

  it("refuses what makes no sense", () => {
    const wrong = [
      { delay: [] },
      { delay: [1, -1] },
      { delay: [1, Number.NaN] },
      { delay: ["1"] as unknown as number[] },
      { delay: 5_000 as never },
      { delay: null as never },
      { attempts: 0 },
      { attempts: 1.5 },
      { delay: { firstMs: -1 } },
      { delay: { factor: 0.5 } },
      { delay: { factor: Number.POSITIVE_INFINITY } },
      { delay: { jitter: 1.1 } },
      { delay: { jitter: Number.NaN } },
      { tries: 5 },
      { delay: { first: 5 } },
    ];
    for (const policy of wrong) {
      expect(() => retryPolicy("here", policy, retryContext("a")), JSON.stringify(policy)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});

describe("the retry policy of a consumer", () => {
  const delaysOf = async (usual: object, own: object): Promise<number[]> => {
    const delays: number[] = [];
    const onEvent = (event: BrokerEvent) => event.type === "retried" && delays.push(event.delayMs);
    const broker = createBroker(memory(), { onEvent, consume: { retry: usual } });
    const orders = queue("orders");
    const failing = () => {
      throw new Error("no");
    };
    const consumer = broker.consume(orders, failing, { retry: own });
    await broker.start();
    await broker.send(orders, 1);
    await expect.poll(() => consumer.status().deadLettered).toBe(1);
    await broker.stop();
    return delays;
  };

  it("takes the place of the broker's, its parts in their places, and a list or a function as a whole", async () => {
    const parts = { attempts: 4, delay: { firstMs: 3, factor: 1, jitter: 0 } };
    expect(await delaysOf(parts, { delay: { firstMs: 2 } })).toEqual([2, 2, 2]);
    expect(await delaysOf(parts, { delay: [1, 5] })).toEqual([1, 5, 5]);
    expect(await delaysOf({ delay: [1, 5] }, {})).toEqual([1, 5]);
    expect(await delaysOf({ delay: [1, 5] }, { attempts: 2, delay: { firstMs: 2, jitter: 0 } })).toEqual([2]);
    expect(await delaysOf({ delay: [1, 5] }, { delay: (attempt: number) => attempt })).toEqual([1, 2, 3, 4]);
  });

  it("is refused where the consumer is made, and where the broker is", () => {
    const wrong = { delay: { firstMs: 2_000, maxMs: 1_000 } };
    expect(() => createBroker(memory(), { consume: { retry: wrong } })).toThrow(/consume \} \{ retry\.delay\.firstMs/);
    const broker = createBroker(memory(), { consume: { retry: { delay: { maxMs: 1_000 } } } });
    expect(() => broker.consume(queue("orders"), () => {}, { retry: { delay: { firstMs: 2_000 } } })).toThrow(
      /consume\(queue "orders"\) \{ retry\.delay\.firstMs/,
    );
  });
});

describe("messageIds", () => {
  const V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

  it("makes valid UUIDv7 that ascend, whatever the clock does", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5_000, max: 5_000 }), { minLength: 1 }), fc.string(), (moves, seed) => {
        let now = Date.UTC(2030, 0, 1);
        const clock = { now: () => now, monotonic: () => 0, schedule: () => ({}), cancel: () => {} };
        const make = messageIds(clock, new Prng(seed));
        let last = "";
        let latest = 0;
        for (const move of moves) {
          now += move;
          latest = Math.max(latest, now);
          const id = make();
          expect(id).toMatch(V7);
          expect(id > last).toBe(true);
          expect(idTime(id)).toBe(latest);
          last = id;
        }
      }),
    );
  });

  it("makes ids that ascend by a clock that is before 1970, and that two processes do not share", () => {
    const clock = { now: () => -5_000, monotonic: () => 0, schedule: () => ({}), cancel: () => {} };
    const ids = ["one", "other"].map((seed) => {
      const make = messageIds(clock, new Prng(seed));
      return [make(), make(), make()];
    });
    for (const made of ids) {
      expect([...made].sort()).toEqual(made);
      for (const id of made) expect([V7.test(id), idTime(id)]).toEqual([true, 0]);
    }
    expect(ids[0]?.[0]?.slice(0, 23)).not.toBe(ids[1]?.[0]?.slice(0, 23));
  });

  it("tells no time of an id of another kind", () => {
    expect(idTime("o-1")).toBeUndefined();
    expect(idTime("9b2d7e0c-8f0a-4c1e-9d5b-1f2e3d4c5b6a")).toBeUndefined();
  });
});

describe("Prefetch", () => {
  it("asks for at least one and never for more than is allowed, in messages and in bytes", () => {
    const step = fc.record({
      concurrency: fc.integer({ min: 1, max: 200 }),
      bytes: fc.nat({ max: 5_000 }),
      passed: fc.nat({ max: 300 }),
      finished: fc.nat({ max: 50 }),
      starved: fc.boolean(),
    });
    const most = fc.integer({ min: 1, max: 500 });
    fc.assert(
      fc.property(most, fc.integer({ min: 1, max: 10_000 }), fc.array(step), (messages, bytes, steps) => {
        let now = 0;
        const clock = { now: () => now, monotonic: () => now, schedule: () => ({}), cancel: () => {} };
        const size = new Prefetch(clock, 10, messages, bytes);
        for (const step of steps) {
          now += step.passed;
          size.arrived(step.bytes);
          for (let count = 0; count < step.finished; count++) size.finished(step.concurrency);
          if (step.starved) size.starved();
          const prefetch = size.size(step.concurrency, 0);
          expect(Number.isInteger(prefetch)).toBe(true);
          expect(prefetch).toBeGreaterThanOrEqual(1);
          expect(prefetch).toBeLessThanOrEqual(messages);
          expect(size.size(step.concurrency, bytes)).toBe(0);
        }
      }),
    );
  });
});

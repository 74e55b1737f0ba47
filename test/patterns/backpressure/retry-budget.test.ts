import { describe, expect, it } from "vitest";
import type { Delivery } from "../../../core/delivery.ts";
import { queue } from "../../../core/destination.ts";
import { WindowedSum } from "../../../patterns/backpressure/handling-meter.ts";
import { type RetryBudgetOptions, retryBudget } from "../../../patterns/backpressure/index.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<{ n: number }>("orders");
const inOrder = queue<{ n: number }>("in-order", { ordered: true, key: ({ n }) => `key-${n % 5}` });

function shop(seed: string, options: RetryBudgetOptions) {
  const world = virtualWorld(seed);
  const budget = retryBudget({ clock: world.clock, random: world.random, ...options });
  return { ...world, budget };
}

describe("retryBudget", () => {
  it("keeps retries to their share when everything fails, and loses nothing", async () => {
    const { broker, budget, clock, finish, sleep, until } = shop("storm", { ratio: 0.1, minPerSecond: 2 });
    const retries: number[] = [];
    let down = true;
    const done = new Set<number>();
    const consumer = broker.consume(
      orders,
      async ({ n }, { attempt }) => {
        if (attempt > 1) retries.push(clock.monotonic());
        await sleep(5);
        if (down) throw new Error("down");
        done.add(n);
      },
      { use: [budget.middleware], retry: { attempts: 1_000, delay: { firstMs: 100, maxMs: 1_000 } } },
    );
    await finish(broker.start());
    await finish(
      broker.sendMany(
        orders,
        Array.from({ length: 400 }, (_, n) => ({ body: { n } })),
      ),
    );
    await until(() => clock.monotonic() > 120_000);
    // 400 first attempts in the first seconds pay for 40; the reserve is 20; then two a second, whatever comes.
    for (const from of retries) {
      const within = retries.filter((at) => at >= from && at < from + 10_000).length;
      expect(within).toBeLessThanOrEqual(40 + 20 + 2 * 11);
    }
    expect(retries.filter((at) => at > 60_000).length).toBeGreaterThan(60);
    expect(budget.status()).toMatchObject({ firstAttempts: 400, retries: retries.length });
    expect(budget.status().postponed).toBe(consumer.status().postponed);
    expect(budget.status().postponed).toBeGreaterThan(100);
    expect(consumer.status()).toMatchObject({ deadLettered: 0, succeeded: 0 });
    down = false;
    await until(() => done.size === 400);
    expect(consumer.status()).toMatchObject({ deadLettered: 0, succeeded: 400 });
    await finish(broker.stop());
  });

  it("lets the retries of a healthy consumer through at once", async () => {
    const { broker, budget, finish, until } = shop("healthy", {});
    const consumer = broker.consume(
      orders,
      ({ n }, { attempt }) => {
        if (n % 10 === 0 && attempt === 1) throw new Error("now and then");
      },
      { use: [budget.middleware], retry: { delay: { firstMs: 10 } } },
    );
    await finish(broker.start());
    for (let n = 0; n < 200; n++) await finish(broker.send(orders, { n }));
    await until(() => consumer.status().succeeded === 200);
    expect(budget.status()).toMatchObject({ retries: 20, postponed: 0 });
    await finish(broker.stop());
  });

  it("keeps the order of keys that wait", async () => {
    const { broker, budget, finish, until } = shop("ordered", { ratio: 0, minPerSecond: 0.5, windowMs: 1_000 });
    const done: number[] = [];
    const consumer = broker.consume(
      inOrder,
      ({ n }, { attempt }) => {
        if (attempt < 3) throw new Error("twice");
        done.push(n);
      },
      { use: [budget.middleware], retry: { delay: { firstMs: 10 } } },
    );
    await finish(broker.start());
    for (let n = 0; n < 20; n++) await finish(broker.send(inOrder, { n }));
    await until(() => done.length === 20);
    for (const key of [0, 1, 2, 3, 4]) {
      const own = done.filter((n) => n % 5 === key);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
    expect(consumer.status().deadLettered).toBe(0);
    expect(budget.status().postponed).toBeGreaterThan(0);
    await finish(broker.stop());
  });

  it("has retries come back one after the other, and none later than the longest wait", async () => {
    const { budget, clock } = shop("spread", { ratio: 0, minPerSecond: 0.5, maxWaitMs: 30_000 });
    const again = budget.middleware(() => {});
    const waits: number[] = [];
    while (waits.length < 100) {
      const outcome = await again(undefined, { attempt: 2 } as Delivery);
      if (outcome !== undefined && "afterMs" in outcome) waits.push(outcome.afterMs as number);
    }
    expect(clock.monotonic()).toBe(0);
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_000);
    // About two seconds apart until that is far, and anywhere in the later half from there on.
    const near = waits.slice(0, 8);
    expect(near).toEqual([...near].sort((a, b) => a - b));
    expect(new Set(waits).size).toBeGreaterThan(90);
    expect(Math.min(...waits.slice(20))).toBeGreaterThanOrEqual(15_000);
  });

  it("refuses what makes no sense", () => {
    const wrong = [{ ratio: -1 }, { ratio: 11 }, { minPerSecond: 0 }, { windowMs: 10 }, { maxWaitMs: 0 }, { share: 1 }];
    for (const options of wrong) {
      expect(() => retryBudget(options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});

describe("WindowedSum", () => {
  it("forgets what is older than its time, and nothing younger than nine tenths of it", () => {
    const sum = new WindowedSum(1_000);
    sum.add(50, 1);
    sum.add(950, 2);
    expect(sum.sum(950)).toBe(3);
    expect(sum.sum(999)).toBe(3);
    expect(sum.sum(1_050)).toBe(2);
    expect(sum.sum(1_899)).toBe(2);
    expect(sum.sum(1_950)).toBe(0);
    sum.add(90_000, 5);
    expect(sum.sum(90_500)).toBe(5);
    expect(sum.sum(200_000)).toBe(0);
  });
});

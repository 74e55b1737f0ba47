import type { StandardSchemaV1 } from "@standard-schema/spec";
import { describe, expect, it } from "vitest";
import { type Delivery, type Handler, retry } from "../../../core/delivery.ts";
import { queue } from "../../../core/destination.ts";
import { isMessagingError } from "../../../core/errors.ts";
import {
  type CircuitBreakerOptions,
  type CircuitChange,
  circuitBreaker,
  controlIntake,
} from "../../../patterns/backpressure/index.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<{ n: number }>("orders");
const letters = queue<{ n: number }>("letters");
const inOrder = queue<{ n: number }>("in-order", { ordered: true, key: ({ n }) => `key-${n % 3}` });
/** A schema that answers later. */
const unhurried: StandardSchemaV1<number> = {
  "~standard": { version: 1, vendor: "test", validate: async (value) => ({ value: value as number }) },
};
const DOWN = new Error("the dependency is down");
const isOutage = (failure: unknown): boolean => failure === DOWN;

function shop(seed: string, options: Partial<CircuitBreakerOptions> = {}) {
  const world = virtualWorld(seed);
  const changes: CircuitChange[] = [];
  const breaker = circuitBreaker({
    isOutage,
    clock: world.clock,
    random: world.random,
    onChange: (change) => changes.push(change),
    ...options,
  });
  const sendAll = async (to: typeof orders, count: number): Promise<void> => {
    for (let n = 0; n < count; n++) await world.finish(world.broker.send(to, { n }));
  };
  return { ...world, breaker, changes, sendAll, states: () => changes.map(({ to }) => to) };
}

describe("circuitBreaker", () => {
  it.for([{ to: orders }, { to: inOrder }])(
    "burns no retries in an outage of an hour, and handles everything after it, on $to.name",
    async ({ to }) => {
      // In order, three keys come to three failures in a row.
      const { broker, breaker, finish, pass, sleep, until, sendAll, states, clock } = shop("outage", {
        consecutiveFailures: 3,
      });
      let down = true;
      let most = 0;
      let running = 0;
      const done = new Set<number>();
      const attempts = new Map<number, number>();
      let calls = 0;
      const consumer = controlIntake([breaker], (use) =>
        broker.consume(
          to,
          async ({ n }, { attempt }) => {
            calls++;
            running++;
            if (breaker.status().state === "half-open") most = Math.max(most, running);
            attempts.set(n, Math.max(attempts.get(n) ?? 0, attempt));
            await sleep(10);
            running--;
            if (down) throw DOWN;
            done.add(n);
          },
          { use, concurrency: 20, retry: { attempts: 3 } },
        ),
      );
      await finish(broker.start());
      await sendAll(to, 100);
      await pass(3_600_000);
      expect(breaker.status().state).not.toBe("closed");
      expect(calls).toBeLessThan(400);
      down = false;
      await until(() => done.size === 100);
      expect(breaker.status()).toMatchObject({ state: "closed", probeAt: undefined });
      expect(states().slice(0, 3)).toEqual(["open", "half-open", "open"]);
      expect(states().slice(-2)).toEqual(["half-open", "closed"]);
      expect(most).toBe(1);
      expect(consumer.status().deadLettered).toBe(0);
      // What failed before it opened counts; nothing after.
      expect(Math.max(...attempts.values())).toBeLessThanOrEqual(3);
      expect(consumer.status().concurrency).toBe(20);
      await finish(broker.stop());
      expect(clock.pending).toBe(0);
    },
  );

  it("opens after so many failures in a row, and waits longer with each probe that fails, by chance not the same", async () => {
    const { broker, breaker, finish, until, sendAll, changes } = shop("row", {
      consecutiveFailures: 4,
      openMs: 1_000,
      maxOpenMs: 8_000,
    });
    const consumer = controlIntake([breaker], (use) =>
      broker.consume(
        orders,
        () => {
          throw DOWN;
        },
        { use, concurrency: 1 },
      ),
    );
    await finish(broker.start());
    await sendAll(orders, 20);
    await until(() => breaker.status().openings === 8);
    // The fourth opened it, and is not counted.
    expect(consumer.status().failed).toBe(3);
    expect(changes[0]).toMatchObject({ from: "closed", to: "open", calls: 4, failures: 4 });
    const waits = changes
      .filter(({ to }) => to === "open")
      .map(({ at, probeAt }) => (probeAt as Date).getTime() - at.getTime());
    for (const [round, wait] of waits.entries()) {
      const longest = Math.min(1_000 * 2 ** round, 8_000);
      expect(wait).toBeGreaterThanOrEqual(longest / 2);
      expect(wait).toBeLessThanOrEqual(longest + 1);
    }
    expect(new Set(waits.slice(-4)).size).toBe(4);
    await finish(broker.stop());
  });

  it("opens at the share of failures, not before enough calls, and forgets old ones", async () => {
    const { broker, breaker, finish, pass, until } = shop("rate", {
      failureRate: 0.5,
      minimumCalls: 4,
      windowMs: 60_000,
      consecutiveFailures: 100,
    });
    const seen: boolean[] = [];
    controlIntake([breaker], (use) =>
      broker.consume(
        queue<boolean>("calls"),
        (fails) => {
          seen.push(fails);
          if (fails) throw DOWN;
        },
        { use, concurrency: 1, retry: { attempts: 1 } },
      ),
    );
    await finish(broker.start());
    const call = async (fails: boolean): Promise<string> => {
      const before = seen.length;
      await finish(broker.send(queue<boolean>("calls"), fails));
      await until(() => seen.length > before);
      await pass(1);
      return breaker.status().state;
    };
    expect([await call(true), await call(true), await call(false)]).toEqual(["closed", "closed", "closed"]);
    await pass(61_000);
    expect(breaker.status()).toMatchObject({ calls: 0, failures: 0 });
    expect([await call(false), await call(false), await call(true)]).toEqual(["closed", "closed", "closed"]);
    expect(await call(true)).toBe("open");
    await finish(broker.stop());
  });

  it("leaves what is wrong with a message to the consumer", async () => {
    const { broker, breaker, finish, until, sendAll } = shop("message", { minimumCalls: 2 });
    const consumer = controlIntake([breaker], (use) =>
      broker.consume(
        orders,
        ({ n }) => {
          if (n % 2 === 0) throw new Error("the order is broken");
        },
        { use, retry: { attempts: 2 } },
      ),
    );
    await finish(broker.start());
    await sendAll(orders, 20);
    await until(() => consumer.status().deadLettered === 10 && consumer.status().succeeded === 10);
    expect(breaker.status()).toMatchObject({ state: "closed", openings: 0, failures: 0 });
    await finish(broker.stop());
  });

  it("counts a retry() that speaks of an outage, and a handler that overruns its deadline", async () => {
    const { broker, breaker, finish, until, sendAll } = shop("kinds", {
      consecutiveFailures: 2,
      isOutage: (failure) => isMessagingError(failure, "timeout") || (failure as { afterMs?: number }).afterMs === 7,
    });
    const hangs = ({ n }: { n: number }) => (n === 0 ? retry({ afterMs: 7 }) : new Promise<void>(() => {}));
    const consumer = controlIntake([breaker], (use) =>
      broker.consume(orders, hangs, { use, concurrency: 1, timeoutMs: 1_000 }),
    );
    await finish(broker.start());
    await sendAll(orders, 2);
    await until(() => breaker.status().state === "open");
    expect(breaker.status()).toMatchObject({ calls: 2, failures: 2 });
    // The overrun has failed by then; what asked for the retry while the circuit was closed, too.
    expect(consumer.status()).toMatchObject({ failed: 2, postponed: 0 });
    await finish(broker.stop());
  });

  it("is shared: all consumers of a dependency stand still, and one message of one of them is the probe", async () => {
    const { broker, breaker, finish, until, sendAll } = shop("shared", { consecutiveFailures: 3, probes: 2 });
    let down = true;
    let running = 0;
    let most = 0;
    const seen = new Set<string>();
    const handle =
      (from: string) =>
      async ({ n }: { n: number }) => {
        running++;
        if (breaker.status().state === "half-open") most = Math.max(most, running);
        await Promise.resolve();
        running--;
        if (down) throw DOWN;
        seen.add(`${from} ${n}`);
      };
    const consumers = [orders, letters].map((to) =>
      controlIntake([breaker], (use) => broker.consume(to, handle(to.name), { use })),
    );
    await finish(broker.start());
    await sendAll(orders, 30);
    await sendAll(letters, 30);
    await until(() => breaker.status().openings === 4);
    expect(consumers.map((consumer) => consumer.status().state)).toEqual(["paused", "paused"]);
    down = false;
    await until(() => seen.size === 60);
    expect(most).toBe(1);
    expect(consumers.map((consumer) => consumer.status().deadLettered)).toEqual([0, 0]);
    await finish(broker.stop());
  });

  it("has one probe at a time, also where schemas take their time and several have started before it is seen", async () => {
    const { broker, breaker, finish, sleep, until } = shop("schemas", { consecutiveFailures: 3 });
    let down = true;
    let running = 0;
    let most = 0;
    let done = 0;
    const sources = ["a", "b", "c"].map((name) => queue(name, { schema: unhurried }));
    const consumers = sources.map((source) =>
      controlIntake([breaker], (use) =>
        broker.consume(
          source,
          async () => {
            running++;
            if (breaker.status().state === "half-open") most = Math.max(most, running);
            await sleep(50);
            running--;
            if (down) throw DOWN;
            done++;
          },
          { use },
        ),
      ),
    );
    await finish(broker.start());
    for (const source of sources) for (let n = 0; n < 5; n++) await finish(broker.send(source, n));
    await until(() => breaker.status().openings === 4);
    down = false;
    await until(() => done === 15);
    expect(most).toBe(1);
    expect(consumers.map((consumer) => consumer.status().deadLettered)).toEqual([0, 0, 0]);
    await finish(broker.stop());
  });

  it("takes no delivery for a probe that was not wanted any more when it began", async () => {
    const { breaker, finish, pass } = shop("unwanted", { consecutiveFailures: 1, openMs: 1_000 });
    const allowed: (number | undefined)[] = [];
    const intake = {
      live: true,
      leased: false,
      ended: false,
      requeue: () => {},
      allow: (handlers: number | undefined) => void allowed.push(handlers),
    };
    const delivery = (signal: AbortSignal) => ({ signal }) as Delivery;
    const use = breaker.control(intake);
    const call = async (next: Handler<unknown>, signal: AbortSignal) => use(next)(undefined, delivery(signal));
    const live = new AbortController().signal;
    const fails = () => Promise.reject(DOWN);
    await finish(call(fails, live));
    await pass(1_500);
    expect(breaker.status().state).toBe("half-open");
    await finish(call(() => {}, AbortSignal.abort(new Error("the lease is gone"))));
    expect(allowed.at(-1)).toBe(1);
    await finish(call(fails, live));
    expect(breaker.status()).toMatchObject({ state: "open", openings: 2 });
  });

  it("gives back what waits in memory when it lasts, without an attempt, for others to handle", async () => {
    const { broker, another, breaker, finish, pass, sleep, until, sendAll } = shop("long", { consecutiveFailures: 2 });
    const consumer = controlIntake([breaker], (use) =>
      broker.consume(
        inOrder,
        async () => {
          await sleep(1_000);
          throw DOWN;
        },
        { use, retry: { attempts: 3 } },
      ),
    );
    await finish(broker.start());
    await sendAll(inOrder, 15);
    await pass(1_200_000);
    expect(consumer.status()).toMatchObject({ requeued: 0, unsettled: 15 });
    await pass(360_000);
    expect(consumer.status().requeued).toBeGreaterThan(0);
    const other = another();
    const seen = new Set<number>();
    let most = 0;
    other.consume(inOrder, ({ n }, { attempt }) => {
      most = Math.max(most, attempt);
      seen.add(n);
    });
    await finish(other.start());
    await pass(1_800_000);
    await finish(broker.stop());
    await until(() => seen.size === 15);
    expect(most).toBeLessThanOrEqual(3);
    expect(consumer.status()).toMatchObject({ deadLettered: 0, failed: 1 });
    await finish(other.stop());
  });

  it("stays open over a stop of the broker, and goes on after the next start", async () => {
    const { broker, breaker, finish, until, pass, sendAll } = shop("restart", {
      consecutiveFailures: 1,
      openMs: 60_000,
      maxOpenMs: 60_000,
    });
    let down = true;
    const done = new Set<number>();
    controlIntake([breaker], (use) =>
      broker.consume(
        orders,
        ({ n }) => {
          if (down) throw DOWN;
          done.add(n);
        },
        { use },
      ),
    );
    await finish(broker.start());
    await sendAll(orders, 5);
    await until(() => breaker.status().state === "open");
    await finish(broker.stop());
    await pass(2_000);
    down = false;
    await finish(broker.start());
    await pass(5_000);
    expect(breaker.status().state).toBe("open");
    expect(done.size).toBe(0);
    await until(() => done.size === 5);
    expect(breaker.status().state).toBe("closed");
    await finish(broker.stop());
  });

  it("lets the next one probe when a stop of its consumer ends a probe", async () => {
    const { broker, breaker, finish, until, pass, sendAll } = shop("probe", { consecutiveFailures: 1, openMs: 1_000 });
    let way: "fails" | "hangs" | "works" = "fails";
    const handle = () => {
      if (way === "fails") throw DOWN;
      return way === "hangs" ? new Promise<void>(() => {}) : undefined;
    };
    const [first, second] = [orders, letters].map((to) =>
      controlIntake([breaker], (use) => broker.consume(to, handle, { use })),
    );
    await finish(broker.start());
    await sendAll(orders, 1);
    await until(() => breaker.status().state === "open");
    await sendAll(letters, 3);
    way = "hangs";
    // Its message is held in memory, and starts before that of the other, which is not even looked at then.
    await sendAll(orders, 1);
    await until(() => first?.status().running === 1);
    await pass(10_000);
    expect(second?.status().started).toBe(0);
    way = "works";
    await finish((first as NonNullable<typeof first>).stop({ timeoutMs: 1_000 }));
    await until(() => second?.status().succeeded === 3);
    expect(breaker.status().state).toBe("closed");
    await finish(broker.stop());
  });

  it("refuses what makes no sense", () => {
    const wrong = [
      {},
      { isOutage: "yes" },
      { failureRate: 0 },
      { failureRate: 2 },
      { minimumCalls: 60, windowCalls: 50 },
      { openMs: 0 },
      { openMs: 10, maxOpenMs: 5 },
      { probes: 0 },
      { consecutiveFailures: 0 },
      { threshold: 1 },
    ];
    for (const options of wrong) {
      const given = "isOutage" in options || Object.keys(options).length === 0 ? options : { isOutage, ...options };
      expect(() => circuitBreaker(given as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import type { Adapter } from "../../../core/adapter.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { type Queue, queue } from "../../../core/destination.ts";
import {
  admitByDepth,
  backlog,
  circuitBreaker,
  controlIntake,
  followDownstream,
  prometheusText,
  rateLimit,
  retryBudget,
} from "../../../patterns/backpressure/index.ts";
import { until } from "../../brokers/until.ts";

const LONG_MS = 60_000;

/** A broker to try the patterns on, and what names on it must begin with. */
export interface Place {
  readonly namePrefix: string;
  /** Whether what is given back counts as delivered once more. */
  readonly countsReleases?: boolean;
  adapter(): Adapter;
}

interface Work {
  readonly n: number;
}

/** What has to hold on every broker; `place` is asked for by each test. */
export function backpressureCases(place: () => Place): void {
  const open: Broker[] = [];

  afterEach(async () => {
    await Promise.all(open.splice(0).map((broker) => broker.stop({ timeoutMs: 1_000 })));
  });

  const newBroker = (...destinations: readonly Queue<Work>[]): Broker => {
    const broker = createBroker(place().adapter(), { destinations });
    open.push(broker);
    return broker;
  };
  const work = (name: string, ordered = false): Queue<Work> =>
    queue<Work>(`${place().namePrefix}${name}`, ordered ? { ordered, key: ({ n }) => `key-${n % 3}` } : {});
  const sendAll = (broker: Pick<Broker, "sendMany">, to: Queue<Work>, count: number) =>
    broker.sendMany(
      to,
      Array.from({ length: count }, (_, n) => ({ body: { n }, options: { timeoutMs: LONG_MS } })),
    );
  const allOf = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
  const holds = (what: string, check: () => unknown): Promise<unknown> => until(what, LONG_MS, check);

  test.for([false, true])("a rate limit is kept and loses nothing (ordered: %s)", async (ordered) => {
    const orders = work(`rate-${ordered}`, ordered);
    const broker = newBroker(orders);
    const seen: number[] = [];
    const limit = rateLimit({ perSecond: 20, burst: 3 });
    const consumer = controlIntake([limit], (use) => broker.consume(orders, ({ n }) => void seen.push(n), { use }));
    await broker.start();
    const from = performance.now();
    await sendAll(broker, orders, 33);
    await holds("every message", () => expect(new Set(seen).size).toBe(33));
    // Never early: after the burst, thirty more take a second and a half.
    expect(performance.now() - from).toBeGreaterThanOrEqual(((seen.length - 3) / 20) * 1_000 - 1);
    expect(consumer.status()).toMatchObject({ failed: 0, deadLettered: 0 });
    if (!ordered) return;
    for (const key of [0, 1, 2]) {
      const first = [...new Set(seen.filter((n) => n % 3 === key))];
      expect(first).toEqual([...first].sort((a, b) => a - b));
    }
  });

  test.for([false, true])("an outage burns no retries, and is over when it is over (ordered: %s)", async (ordered) => {
    const orders = work(`outage-${ordered}`, ordered);
    const broker = newBroker(orders);
    const down = new Error("down");
    let isDown = true;
    let most = 0;
    const done = new Set<number>();
    const breaker = circuitBreaker({
      isOutage: (failure) => failure === down,
      consecutiveFailures: 2,
      openMs: 100,
      maxOpenMs: 400,
    });
    const consumer = controlIntake([breaker], (use) =>
      broker.consume(
        orders,
        ({ n }, { attempt }) => {
          most = Math.max(most, attempt);
          if (isDown) throw down;
          done.add(n);
        },
        { use, retry: { attempts: 3, delay: { firstMs: 50, factor: 1 } } },
      ),
    );
    await broker.start();
    await sendAll(broker, orders, 20);
    await holds("failed probes", () => expect(breaker.status().openings).toBeGreaterThanOrEqual(4));
    expect(consumer.status()).toMatchObject({ deadLettered: 0, succeeded: 0 });
    // Only what failed before it opened has used up an attempt.
    expect(consumer.status().failed).toBeLessThanOrEqual(2);
    isDown = false;
    await holds("every message", () => expect(done.size).toBe(20));
    await holds("the circuit to close", () => expect(breaker.status().state).toBe("closed"));
    expect(consumer.status().deadLettered).toBe(0);
    expect(most).toBeLessThanOrEqual(3);
  });

  test("what a long hold gives back comes again, and has used up no attempt", async () => {
    const orders = work("given-back");
    const broker = newBroker(orders);
    const attempts = new Map<number, number>();
    let hangs = true;
    const consumer = broker.consume(
      orders,
      ({ n }, { attempt }) => {
        if (hangs) return new Promise<void>(() => {});
        attempts.set(n, attempt);
      },
      { concurrency: 1 },
    );
    await broker.start();
    await sendAll(broker, orders, 12);
    await holds("some to wait behind one that runs", () => {
      expect(consumer.status().running).toBe(1);
      expect(consumer.status().waiting).toBeGreaterThan(0);
    });
    consumer.pause({ requeue: true });
    await holds("all to be given back", () => expect(consumer.status().unsettled).toBe(1));
    expect(consumer.status().requeued).toBeGreaterThan(0);
    hangs = false;
    consumer.setConcurrency(2);
    consumer.resume();
    await holds("the others", () => expect(attempts.size).toBe(11));
    if (place().countsReleases !== true) expect(new Set(attempts.values())).toEqual(new Set([1]));
  });

  test("retries over budget wait, and are neither lost nor dead-lettered", async () => {
    const orders = work("budget");
    const broker = newBroker(orders);
    const budget = retryBudget({ ratio: 0, minPerSecond: 8, windowMs: 1_000 });
    const done = new Set<number>();
    const consumer = broker.consume(
      orders,
      ({ n }, { attempt }) => {
        if (attempt === 1) throw new Error("at first");
        done.add(n);
      },
      { use: [budget.middleware], retry: { attempts: 2, delay: { firstMs: 10 } } },
    );
    await broker.start();
    await sendAll(broker, orders, 20);
    await holds("every message", () => expect(done.size).toBe(20));
    expect(budget.status().postponed).toBeGreaterThan(0);
    expect(consumer.status().deadLettered).toBe(0);
  });

  test("a publisher waits before a full queue, or is refused, and everything sent is handled", async () => {
    const orders = work("admission");
    const broker = newBroker(orders);
    const seen = new Set<number>();
    const consumer = broker.consume(orders, ({ n }) => void seen.add(n), { concurrency: 2 });
    consumer.pause();
    await broker.start();
    const limits = [{ destination: orders, maxDepth: 20, resumeAt: 5 }];
    const waiting = admitByDepth(broker, { limits, pollMs: 100 });
    const sent = sendAll(waiting, orders, 100);
    // What fails below must not leave a rejection behind that nobody hears of.
    sent.catch(() => {});
    await holds("the queue to be full", () => expect(waiting.status()[0]).toMatchObject({ full: true, waiting: 80 }));
    await holds("all of it to stand there", async () => expect((await broker.depth(orders)).ready).toBe(20));
    const failing = admitByDepth(broker, { limits, pollMs: 100, whenFull: "fail" });
    await expect(failing.send(orders, { n: 1_000 })).rejects.toMatchObject({ code: "overloaded" });
    expect((await broker.depth(orders)).ready).toBe(20);
    consumer.resume();
    await sent;
    await holds("every message", () => expect([...seen].sort((a, b) => a - b)).toEqual(allOf(100)));
  });

  test("in a pipeline a slow last stage slows the first: queues stay bounded, nothing is lost", async () => {
    const [first, middle, last] = [work("first"), work("middle"), work("last")];
    const broker = newBroker(first, middle, last);
    const count = 120;
    const follow = (to: Queue<Work>, maxDepth: number) =>
      followDownstream(broker, { limits: [{ destination: to, maxDepth }], pollMs: 50 });
    controlIntake([follow(middle, 40)], (use) =>
      broker.consume(first, async (body) => void (await broker.send(middle, body)), { use }),
    );
    controlIntake([follow(last, 30)], (use) =>
      broker.consume(middle, async (body) => void (await broker.send(last, body)), { use, prefetch: { messages: 10 } }),
    );
    const seen = new Set<number>();
    const slow = broker.consume(
      last,
      async ({ n }) => {
        await sleep(10);
        seen.add(n);
      },
      { concurrency: 1, prefetch: { messages: 2 } },
    );
    await broker.start();
    await sendAll(broker, first, count);
    const most = { middle: 0, last: 0 };
    while (slow.status().succeeded < count && seen.size < count) {
      most.middle = Math.max(most.middle, (await broker.depth(middle)).ready);
      most.last = Math.max(most.last, (await broker.depth(last)).ready);
      await sleep(10);
    }
    await holds("every message", () => expect([...seen].sort((a, b) => a - b)).toEqual(allOf(count)));
    // Where a message came twice it may count twice. Without the link the middle would hold most of all.
    expect(most.middle).toBeLessThanOrEqual(2 * 40);
    expect(most.last).toBeLessThanOrEqual(2 * 30);
    expect(most.last).toBeGreaterThan(0);
  });

  test("a backlog is told while it stands and while it goes", async () => {
    const orders = work("backlog");
    const broker = newBroker(orders);
    const meter = backlog(broker, orders, { targetDelayMs: 1_000 });
    const consumer = broker.consume(orders, () => sleep(5), { concurrency: 2, use: [meter.middleware] });
    consumer.pause();
    await broker.start();
    await sendAll(broker, orders, 50);
    await holds("the depth", async () => expect((await meter.read()).depth).toBe(50));
    consumer.resume();
    await holds("every message", () => expect(consumer.status().succeeded).toBeGreaterThanOrEqual(50));
    const reading = await holds("the end of it", async () => {
      const now = await meter.read();
      expect(now).toMatchObject({ depth: 0, oldestAgeMs: 0 });
      expect(now.handled).toBeGreaterThanOrEqual(50);
      expect(now.deadLettered).toBe(0);
      expect(now.handlingMs).toBeGreaterThan(0);
      expect(now.consumersRecommended).toBeGreaterThanOrEqual(1);
      return now;
    });
    const text = prometheusText([reading as Awaited<ReturnType<typeof meter.read>>]).body;
    expect(text).toContain(`anybroker_backlog_depth{source="${orders.name}"} 0\n`);
  });
}

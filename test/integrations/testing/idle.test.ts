import { setTimeout, setImmediate as turn } from "node:timers/promises";
import { createBroker, deadLetter, postpone, queue, topic } from "anybroker";
import { type TestBrokerOptions, testBroker } from "anybroker/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const HOUR_MS = 3_600_000;
const work = queue<{ n: number }>("work");
const events = topic<{ n: number }>("events", { routingKey: ({ n }) => (n % 2 === 0 ? "even" : "odd") });

describe("idle waits", () => {
  test("for chains of sends, over queues, subscriptions and broker objects", async () => {
    await using kit = testBroker();
    const other = kit.createBroker();
    const done: string[] = [];
    kit.broker.consume(work, async ({ n }) => {
      if (n > 0) await kit.broker.send(work, { n: n - 1 }, { delayMs: HOUR_MS });
      await kit.broker.publish(events, { n });
    });
    other.subscribe(events, "even", ({ n }) => void done.push(`even ${n}`), { filter: "even" });
    other.subscribe(events, "all", ({ n }) => void done.push(`all ${n}`));
    await Promise.all([kit.broker.start(), other.start()]);
    const startedAt = kit.clock.now();
    await kit.broker.send(work, { n: 2 });
    await kit.idle();
    expect(done).toEqual(["even 2", "all 2", "all 1", "even 0", "all 0"]);
    expect(kit.clock.now()).toBe(startedAt + 2 * HOUR_MS);
  });

  test("for real I/O of handlers, without moving the time", async () => {
    await using kit = testBroker();
    kit.broker.consume(work, async ({ n }) => {
      await setTimeout(30);
      if (n > 0) await kit.broker.send(work, { n: n - 1 });
    });
    await kit.broker.start();
    const startedAt = kit.clock.now();
    await kit.broker.send(work, { n: 2 });
    await kit.broker.send(work, { n: 7 }, { delayMs: HOUR_MS });
    await kit.idle({ dueWithinMs: 0 });
    expect(kit.consumed(work).map(({ body }) => body.n)).toEqual([2, 1, 0]);
    expect(kit.clock.now()).toBe(startedAt);
  });

  test("for what rests until its next attempt in place", async () => {
    await using kit = testBroker();
    const ordered = queue<number>("ordered", { ordered: true, key: () => "k" });
    const seen: string[] = [];
    kit.broker.consume(
      ordered,
      (n, { attempt }) => {
        seen.push(`${n}.${attempt}`);
        if (n === 1 && attempt < 3) throw new Error("not yet");
      },
      { retry: { delay: { firstMs: HOUR_MS, maxMs: HOUR_MS } } },
    );
    await kit.broker.start();
    await kit.broker.sendMany(ordered, [{ body: 1 }, { body: 2 }]);
    await kit.idle({ dueWithinMs: HOUR_MS - 1 });
    expect(seen).toEqual(["1.1"]);
    await kit.idle({ dueWithinMs: HOUR_MS });
    expect(seen).toEqual(["1.1", "1.2"]);
    await kit.idle();
    expect(seen).toEqual(["1.1", "1.2", "1.3", "2.1"]);
  });

  test("for a broker that is starting", async () => {
    await using kit = testBroker();
    kit.broker.consume(work, () => {});
    const started = kit.broker.start().then(() => kit.broker.send(work, { n: 1 }));
    await kit.idle();
    expect(kit.consumed(work)).toHaveLength(1);
    await started;
  });

  test("for what was postponed", async () => {
    await using kit = testBroker();
    let asked = 0;
    kit.broker.consume(work, () => (++asked < 4 ? postpone({ afterMs: HOUR_MS }) : undefined));
    await kit.broker.start();
    await kit.broker.send(work, { n: 1 });
    await kit.idle();
    expect(asked).toBe(4);
    expect(kit.consumed(work).map(({ attempt }) => attempt)).toEqual([1]);
  });
});

describe("idle does not wait", () => {
  test("for what nobody consumes, nor before the start or after the stop", async () => {
    await using kit = testBroker({ destinations: [work] });
    await kit.idle();
    await kit.broker.start();
    await kit.broker.send(work, { n: 1 });
    await kit.idle();
    await kit.broker.stop();
    await kit.idle();
    expect(kit.sent(work)).toHaveLength(1);
    expect(kit.consumed(work)).toEqual([]);
  });

  test("for what only a paused consumer takes, until it goes on", async () => {
    await using kit = testBroker();
    const consumer = kit.broker.consume(work, () => {});
    await kit.broker.start();
    consumer.pause();
    await kit.broker.send(work, { n: 1 });
    await kit.idle();
    expect(kit.consumed(work)).toEqual([]);
    consumer.resume();
    await kit.idle();
    expect(kit.consumed(work)).toHaveLength(1);
  });

  test("for a subscription that does not take the event", async () => {
    await using kit = testBroker();
    kit.broker.subscribe(events, "even", () => {}, { filter: "even" });
    kit.broker.subscribe(events, "odd", () => {}, { filter: "odd" });
    await kit.broker.start();
    await kit.broker.publish(events, { n: 1 });
    await kit.idle();
    expect(kit.consumed(events, "even")).toEqual([]);
    expect(kit.consumed(events, "odd")).toHaveLength(1);
  });
});

describe("idle gives up", () => {
  const hanging = async (options: TestBrokerOptions = {}) => {
    const kit = testBroker({ idleTimeoutMs: 50, consume: { concurrency: 1 }, ...options });
    let end = (): void => {};
    kit.broker.consume(work, ({ n }) => (n === 1 ? new Promise<void>((resolve) => (end = resolve)) : undefined));
    await kit.broker.start();
    await kit.broker.send(work, { n: 1 }, { id: "canary-free" });
    await kit.idle({ timeoutMs: 50 }).catch(() => {});
    return { kit, end: () => end() };
  };

  test("with the messages that are left, and where", async () => {
    const { kit } = await hanging();
    await kit.broker.send(work, { n: 2 }, { id: "behind" });
    await kit.broker.send(work, { n: 3 }, { id: "later", delayMs: HOUR_MS });
    const error: unknown = await kit.idle().catch((reason) => reason);
    expect(error).toMatchObject({ code: "timeout", name: "MessagingError" });
    expect((error as Error).message.split("\n")).toEqual([
      "idle() timed out after 50 ms, with this left:",
      '- message canary-free of queue "work" is in flight: its handler still runs (attempt 1)',
      '- message behind of queue "work" is in flight: it waits for a handler, for its next attempt, or to be settled',
      `- message later of queue "work" is due in ${HOUR_MS} ms`,
      expect.stringMatching(/^The virtual clock does not move while a handler runs/),
    ]);
    await kit.close();
  });

  test("also if there is always something new", async () => {
    await using kit = testBroker({ idleTimeoutMs: 50 });
    kit.broker.consume(work, async ({ n }) => {
      await turn();
      await kit.broker.send(work, { n: n + 1 });
    });
    await kit.broker.start();
    await kit.broker.send(work, { n: 0 });
    await expect(kit.idle()).rejects.toMatchObject({ code: "timeout" });
  });

  test("but not because the machine was busy meanwhile", async () => {
    await using kit = testBroker({ idleTimeoutMs: 20 });
    kit.broker.consume(work, () => {
      const end = performance.now() + 30;
      while (performance.now() < end);
    });
    await kit.broker.start();
    await kit.broker.sendMany(work, [
      { body: { n: 1 }, options: { delayMs: 1 } },
      { body: { n: 2 }, options: { delayMs: 2 } },
    ]);
    await kit.idle();
    expect(kit.consumed(work)).toHaveLength(2);
  });

  test("naming ten at most", async () => {
    const { kit } = await hanging();
    for (let n = 2; n < 20; n++) await kit.broker.send(work, { n }, { delayMs: HOUR_MS });
    await expect(kit.idle()).rejects.toThrow(/\n- and 9 more\n/);
    await kit.close();
  });

  test("and succeeds afterwards, when the handler has ended", async () => {
    const { kit, end } = await hanging();
    end();
    await kit.idle();
    expect(kit.consumed(work)).toHaveLength(1);
    await kit.close();
  });

  test("but the handler's own deadline can be brought about", async () => {
    const { kit } = await hanging({ consume: { timeoutMs: HOUR_MS, retry: { attempts: 1 } } });
    await kit.clock.advance(HOUR_MS);
    await kit.idle();
    expect(kit.deadLetters(work)).toMatchObject([{ id: "canary-free", reason: "attempts", attempts: 1 }]);
    await kit.close();
  });
});

test("a handler that waits for the virtual clock can be helped", async () => {
  await using kit = testBroker();
  kit.broker.consume(work, () => new Promise<void>((resolve) => void kit.clock.schedule(resolve, 60_000)));
  await kit.broker.start();
  await kit.broker.send(work, { n: 1 });
  const idle = kit.idle();
  await kit.clock.advance(60_000);
  await idle;
  expect(kit.consumed(work)).toHaveLength(1);
});

describe("what else is to hold", () => {
  test("is asked when nothing else is left, and time moves until it does", async () => {
    await using kit = testBroker();
    kit.broker.consume(work, () => {});
    await kit.broker.start();
    const handled: number[] = [];
    kit.clock.schedule(() => void kit.broker.send(work, { n: 1 }, { delayMs: HOUR_MS }), HOUR_MS);
    await kit.idle({ until: () => handled.push(kit.consumed(work).length) > 0 && handled.at(-1) === 1 });
    expect(handled[0]).toBe(0);
    expect(kit.clock.monotonic()).toBe(2 * HOUR_MS);
  });

  test("is named when it does not, and rejects when it throws", async () => {
    await using kit = testBroker({ idleTimeoutMs: 50 });
    await expect(kit.idle({ until: () => new Promise<boolean>(() => {}) })).rejects.toThrow(/`until` is false$/);
    await expect(kit.idle({ until: async () => false })).rejects.toThrow(/\n- the condition `until` is false$/);
    const broken = () => {
      throw new RangeError("no such table");
    };
    await expect(kit.idle({ until: broken })).rejects.toThrow(RangeError);
    await expect(kit.idle({ until: true } as never)).rejects.toMatchObject({ code: "invalid" });
  });
});

test("close ends what hangs, with its signal aborted, and a second call waits for the first", async () => {
  const kit = testBroker();
  const aborted = Promise.withResolvers<unknown>();
  kit.broker.consume(work, (_, { signal }) => {
    signal.addEventListener("abort", () => aborted.resolve(signal.reason));
    return new Promise<void>(() => {});
  });
  await kit.broker.start();
  await kit.broker.send(work, { n: 1 });
  await kit.idle({ timeoutMs: 50 }).catch(() => {});
  await Promise.all([kit.close(), kit.close()]);
  expect(await aborted.promise).toMatchObject({ code: "closed" });
  expect(kit.broker.status().state).toBe("stopped");
});

test("the broker is none but the engine's own: patterns find what they build on", () => {
  const symbols = (broker: object) => Object.getOwnPropertySymbols(broker);
  const kit = testBroker();
  expect(symbols(kit.broker)).toEqual(symbols(createBroker(Object.create(null))));
});

test("whatever fails, is delayed or given up: after idle, each message is consumed or dead, once", async () => {
  const message = fc.record({
    failures: fc.integer({ min: 0, max: 6 }),
    delayMs: fc.constantFrom(0, 0, 1, HOUR_MS),
    dead: fc.boolean(),
    real: fc.boolean(),
  });
  const list = fc.array(message, { maxLength: 25 });
  const attempts = fc.integer({ min: 1, max: 5 });
  await fc.assert(
    fc.asyncProperty(
      list,
      attempts,
      fc.boolean(),
      fc.integer({ min: 1, max: 4 }),
      async (messages, most, ordered, concurrency) => {
        await using kit = testBroker();
        const jobs = queue<number>("jobs", { ordered, key: (n) => String(n % 3) });
        const starts = new Map<number, number>();
        kit.broker.consume(
          jobs,
          async (n, { attempt }) => {
            const { failures, dead, real } = messages[n] as (typeof messages)[number];
            starts.set(n, attempt);
            if (real) await setTimeout(0);
            if (attempt <= failures) throw new Error("again");
            return dead ? deadLetter("no use") : undefined;
          },
          { concurrency, retry: { attempts: most, delay: { firstMs: HOUR_MS, factor: 3, maxMs: 24 * HOUR_MS } } },
        );
        await kit.broker.start();
        await kit.broker.sendMany(
          jobs,
          messages.map(({ delayMs }, n) => ({ body: n, options: ordered ? {} : { delayMs } })),
        );
        await kit.idle();
        const consumed = kit.consumed(jobs).map(({ body }) => body);
        const dead = kit.deadLetters(jobs).map(({ body }) => body);
        expect([...consumed, ...dead].sort()).toEqual(messages.map((_, n) => n).sort());
        expect(kit.sent(jobs)).toHaveLength(messages.length);
        for (const [n, { failures, dead: given }] of messages.entries()) {
          expect(consumed.includes(n), `${n}`).toBe(failures < most && !given);
          expect(starts.get(n)).toBe(Math.min(failures + 1, most));
        }
      },
    ),
    { numRuns: 60 },
  );
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { dueAfter, LEVELS, leavesAt, levelFor, levelMs } from "../../../adapters/kafka/delays/levels.ts";

const TOP = LEVELS - 1;
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

const delay = fc.oneof(
  fc.integer({ min: 0, max: 5_000 }),
  fc.integer({ min: 0, max: 3 * 60 * MINUTE }),
  fc.integer({ min: 0, max: 90 * DAY }),
);

interface World {
  /** How long each step takes beyond its wait: reading, sending, being down. */
  readonly latencies: readonly number[];
  /** By how much the clock of the sender, and of who forwards each level, goes ahead of the true time. */
  readonly senderAhead: number;
  readonly forwarderAhead: readonly number[];
}

/** Follows a message through the levels in true time, which begins at 0.5 so that clocks that cut it show. */
function travel(delayMs: number, { latencies, senderAhead, forwarderAhead }: World) {
  const clock = (time: number, ahead: number): number => 1e12 + Math.floor(time + ahead);
  let time = 0.5;
  let since = clock(time, senderAhead);
  const dueAt = dueAfter(since, delayMs);
  let level = levelFor(dueAt - since);
  const hops = Array.from({ length: LEVELS }, () => 0);
  const taken: number[] = [];
  const step = (): void => {
    const latency = latencies[taken.length % latencies.length] as number;
    taken.push(latency);
    time += latency;
  };
  for (;;) {
    hops[level] = (hops[level] ?? 0) + 1;
    step();
    const ahead = forwarderAhead[level] as number;
    const receivedAt = clock(time, ahead);
    const leaves = leavesAt({ level, dueAt, since, receivedAt });
    if (leaves > receivedAt) time += leaves - receivedAt;
    since = clock(time, ahead);
    if (since >= dueAt) return { arrivedAt: time - 0.5, hops, lastLatency: taken.at(-1) as number, ahead };
    level = levelFor(dueAt - since);
  }
}

const latencies = fc.array(fc.oneof(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 5_000 })), {
  minLength: 1,
  maxLength: 7,
});
const exact = { senderAhead: 0, forwarderAhead: Array.from({ length: LEVELS }, () => 0) };
const skew = fc.integer({ min: -20_000, max: 20_000 });

test("a level's wait is no longer than what remains, and the next one's is", () => {
  fc.assert(
    fc.property(delay, (remaining) => {
      const level = levelFor(remaining);
      expect(levelMs(level)).toBeLessThanOrEqual(remaining);
      if (level < TOP) expect(levelMs(level + 1)).toBeGreaterThan(remaining);
    }),
  );
  expect(levelFor(-5)).toBe(0);
  expect(Array.from({ length: LEVELS }, (_, level) => levelMs(level))).toEqual([
    0, 1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000, 4_096_000,
  ]);
});

test("a message is never early, and late by no more than what its last step took", () => {
  fc.assert(
    fc.property(delay, latencies, (delayMs, steps) => {
      const { arrivedAt, lastLatency } = travel(delayMs, { ...exact, latencies: steps });
      expect(arrivedAt).toBeGreaterThanOrEqual(delayMs);
      // 2 ms: the clocks are cut to milliseconds, and one is added against that.
      expect(arrivedAt).toBeLessThanOrEqual(delayMs + lastLatency + 2);
    }),
  );
});

test("it makes at most three hops at a level, one at the lowest, and goes round at the top for what is longer", () => {
  fc.assert(
    fc.property(delay, latencies, (delayMs, steps) => {
      const { hops } = travel(delayMs, { ...exact, latencies: steps });
      expect(hops[0]).toBeLessThanOrEqual(1);
      for (const count of hops.slice(1, TOP)) expect(count).toBeLessThanOrEqual(3);
      expect(hops[TOP]).toBeLessThanOrEqual(Math.floor((delayMs + 1) / levelMs(TOP)));
    }),
  );
});

test("clocks that differ make it early or late by no more than they differ, and never send it round without a wait", () => {
  fc.assert(
    fc.property(
      delay,
      latencies,
      skew,
      fc.array(skew, { minLength: LEVELS, maxLength: LEVELS }),
      (delayMs, steps, senderAhead, forwarderAhead) => {
        const skewed = { latencies: steps, senderAhead, forwarderAhead };
        const { arrivedAt, hops, ahead } = travel(delayMs, skewed);
        expect(arrivedAt).toBeGreaterThanOrEqual(delayMs + senderAhead - ahead);
        const total = hops.reduce((sum, count) => sum + count, 0);
        const slowest = Math.min(...forwarderAhead);
        const latest = Math.max(delayMs + senderAhead - slowest, 0) + Math.max(...steps) * total + 2;
        expect(arrivedAt).toBeLessThanOrEqual(latest);
        // Of each round over the levels one clock is the slowest, and there it waits a second at least.
        const rounds = 1 + (Math.max(...forwarderAhead, senderAhead) - Math.min(slowest, senderAhead)) / 1_000;
        expect(total).toBeLessThanOrEqual(19 + delayMs / levelMs(TOP) + LEVELS * rounds);
      },
    ),
    { numRuns: 1_000 },
  );
});

test("a message that another sender wrote to the wrong level leaves it after that level's time", () => {
  const now = 1e12;
  for (const since of [0, now, 1e16]) {
    const stay = { dueAt: 1e16, since, receivedAt: now };
    expect(leavesAt({ ...stay, level: 0 })).toBeLessThanOrEqual(now + 1_000);
    expect(leavesAt({ ...stay, level: 3 })).toBeLessThanOrEqual(now + levelMs(3));
  }
});

test("a sender's clock that goes an hour fast holds a level up no longer than the level's time", () => {
  const now = 1e12;
  const dueAt = now + 65 * MINUTE;
  const leaves = leavesAt({ level: 1, dueAt, since: now + 60 * MINUTE, receivedAt: now });
  expect(leaves).toBe(now + levelMs(1));
});

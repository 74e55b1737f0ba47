import { setTimeout } from "node:timers/promises";
import { queue } from "anybroker";
import { memory } from "anybroker/memory";
import { testBroker } from "anybroker/testing";
import { describe, expect, test } from "vitest";

describe("the virtual clock", () => {
  test("begins where it is told, and moves by what it is told", async () => {
    const startAt = new Date("2031-02-03T04:05:06.789Z");
    const { clock } = testBroker({ startAt });
    expect(clock.virtual).toBe(true);
    expect(clock.now()).toBe(startAt.getTime());
    await clock.advance(1.5);
    expect([clock.now() - startAt.getTime(), clock.monotonic()]).toEqual([1, 1.5]);
    expect(Math.abs(testBroker().clock.now() - Date.now())).toBeLessThan(60_000);
  });

  test("lets what is due happen at its own time, in its order, with all that follows from it", async () => {
    const { clock } = testBroker();
    const happened: string[] = [];
    const at = (name: string, ms: number) =>
      clock.schedule(() => void Promise.resolve().then(() => happened.push(`${name} ${clock.monotonic()}`)), ms);
    at("second", 20);
    at("third", 20);
    at("first", 10);
    clock.cancel(at("never", 15));
    clock.schedule(() => void Promise.resolve().then(() => at("made on the way", 5)), 20);
    at("too late", 26);
    await clock.advance(25);
    expect(happened).toEqual(["first 10", "second 20", "third 20", "made on the way 25"]);
    expect(clock.monotonic()).toBe(25);
    await clock.advance(0);
    await clock.advance(1);
    expect(happened.at(-1)).toBe("too late 26");
  });

  test.for([-1, Number.NaN, Number.POSITIVE_INFINITY, 8.64e15, 1e300])("does not advance by %d", async (ms) => {
    await expect(testBroker().clock.advance(ms)).rejects.toMatchObject({ code: "invalid" });
  });

  test("passes until a promise is settled, as it is", async () => {
    const { clock } = testBroker();
    const later = (ms: number) => new Promise<number>((resolve) => void clock.schedule(() => resolve(ms), ms));
    expect(await clock.passUntil(later(1_000).then(later))).toBe(1_000);
    expect(clock.monotonic()).toBe(2_000);
    await expect(clock.passUntil(later(5).then(() => Promise.reject(new RangeError("no"))))).rejects.toThrow(
      RangeError,
    );
    // Nothing is due, and it is settled all the same.
    expect(await clock.passUntil(setTimeout(20, "of its own"))).toBe("of its own");
  });

  test("decides over a stop, which a handler that hangs holds up", async () => {
    await using kit = testBroker();
    const orders = queue<number>("orders");
    kit.broker.consume(orders, () => new Promise<void>(() => {}));
    await kit.broker.start();
    await kit.broker.send(orders, 1);
    await kit.clock.passUntil(kit.broker.stop());
    expect(kit.clock.monotonic()).toBeGreaterThanOrEqual(30_000);
  });

  test("decides over expiry too", async () => {
    await using kit = testBroker();
    const orders = queue<number>("orders", { ttlMs: 1_000 });
    const consumer = kit.broker.consume(orders, () => {});
    await kit.broker.start();
    consumer.pause();
    await kit.broker.send(orders, 1, { id: "m-1" });
    await kit.clock.advance(1_000);
    consumer.resume();
    await kit.idle();
    expect(kit.deadLetters()).toMatchObject([{ id: "m-1", source: "orders", reason: "expired", attempts: 0 }]);
  });
});

test("the clock of another broker is the machine's, and says so", async () => {
  await using kit = testBroker({ adapter: memory() });
  expect(kit.clock.virtual).toBe(false);
  expect(await kit.clock.passUntil(Promise.resolve(1))).toBe(1);
  await expect(kit.clock.advance(1)).rejects.toMatchObject({
    code: "unsupported",
    message: expect.stringMatching(/^clock\.advance\(\): the time of memory cannot be moved\. .*kit\.clock\.virtual/),
  });
  const [before, orders] = [performance.now(), queue<number>("orders")];
  kit.broker.consume(orders, () => {});
  await kit.broker.start();
  await kit.broker.send(orders, 1, { delayMs: 30 });
  await kit.idle({ dueWithinMs: 0 });
  expect(kit.consumed(orders)).toEqual([]);
  await kit.idle();
  expect(kit.consumed(orders)).toHaveLength(1);
  expect(performance.now() - before).toBeGreaterThanOrEqual(30);
});

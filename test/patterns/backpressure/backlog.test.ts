import { describe, expect, it } from "vitest";
import { type Delivery, deadLetter } from "../../../core/delivery.ts";
import { queue, topic } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HandlingMeter } from "../../../patterns/backpressure/handling-meter.ts";
import { type BacklogOptions, type BacklogReading, backlog } from "../../../patterns/backpressure/index.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<number>("orders");
const placed = topic<number>("placed");

/** A queue that gets `perSecond` messages, each of which takes `handlingMs`. */
function shop(perSecond: number, handlingMs: number, concurrency: number, options: BacklogOptions = {}) {
  const world = virtualWorld("backlog");
  const { broker, clock, sleep, finish } = world;
  const meter = backlog(broker, orders, { clock, ...options });
  const consumer = broker.consume(orders, () => sleep(handlingMs), { concurrency, use: [meter.middleware] });
  let timer: object | undefined;
  const arrive = (): void => {
    void broker.send(orders, 0);
    timer = clock.schedule(arrive, 1_000 / perSecond);
  };
  const begin = async (): Promise<void> => {
    await finish(broker.start());
    arrive();
  };
  const end = async (): Promise<void> => {
    if (timer !== undefined) clock.cancel(timer);
    await finish(broker.stop());
  };
  /** Reads now and then for two minutes, and returns the last reading. */
  const settle = async (): Promise<BacklogReading> => {
    for (let second = 0; second < 120; second += 5) {
      await finish(meter.read());
      await world.pass(5_000);
    }
    return finish(meter.read());
  };
  return { ...world, meter, consumer, begin, end, settle };
}

describe("backlog", () => {
  it("tells what comes, what goes and how long it takes, where consumers keep up", async () => {
    const { begin, end, settle } = shop(10, 200, 4, { minConsumers: 1 });
    await begin();
    const reading = await settle();
    expect(reading).toMatchObject({ source: "orders", exact: true, consumersRecommended: 1 });
    expect(reading.arrivalPerSecond).toBeCloseTo(10, 0);
    expect(reading.drainPerSecond).toBeCloseTo(10, 0);
    expect(reading.handlingMs).toBeCloseTo(200, 5);
    expect(reading.oldestAgeMs).toBeLessThan(200);
    await end();
  });

  it("recommends what it takes to keep up and to work off what waits in time", async () => {
    // 20 a second come; one process gets 5 a second done, so 15 a second pile up.
    const { begin, end, settle } = shop(20, 400, 2, { targetDelayMs: 60_000 });
    await begin();
    const reading = await settle();
    expect(reading.arrivalPerSecond).toBeCloseTo(20, 0);
    expect(reading.drainPerSecond).toBeCloseTo(5, 0);
    const depth = reading.depth as number;
    expect(depth).toBeGreaterThan(1_500);
    expect(reading.consumersRecommended).toBe(
      Math.ceil((((reading.arrivalPerSecond as number) + depth / 60) * (reading.handlingMs as number)) / 1_000 / 2),
    );
    expect(reading.consumersRecommended).toBeGreaterThanOrEqual(8);
    // What is started now has waited for three quarters of the time.
    expect(reading.oldestAgeMs).toBeGreaterThan(80_000);
    expect(reading.oldestAgeMs).toBeLessThan(100_000);
    await end();
  });

  it("counts the other processes, and keeps to the bounds", async () => {
    const { begin, end, settle } = shop(20, 400, 2, { consumers: () => 3, maxConsumers: 4 });
    await begin();
    const reading = await settle();
    expect(reading.drainPerSecond).toBeCloseTo(15, 0);
    expect(reading.consumersRecommended).toBe(4);
    await end();
  });

  it("says nothing it does not know", async () => {
    const { broker, clock, finish, pass } = virtualWorld("unknown", { destinations: [orders] });
    const meter = backlog(broker, orders, { clock });
    expect(await finish(meter.read())).toMatchObject({ depth: undefined, exact: false, oldestAgeMs: undefined });
    await finish(broker.start());
    await finish(broker.send(orders, 1));
    await pass(10_000);
    expect(await finish(meter.read())).toMatchObject({
      depth: 1,
      unsettled: 0,
      oldestAgeMs: undefined,
      handled: 0,
      deadLettered: 0,
      drainPerSecond: 0,
      arrivalPerSecond: undefined,
      handlingMs: undefined,
      consumersRecommended: undefined,
    });
    await finish(broker.stop());
  });

  it("counts what is handled and what is dead-lettered apart, and both as drained", async () => {
    const { broker, clock, finish, pass } = virtualWorld("apart", { destinations: [orders] });
    const meter = backlog(broker, orders, { clock });
    broker.consume(orders, (n) => (n % 4 === 0 ? deadLetter("a fourth of them") : undefined));
    await finish(broker.start());
    await finish(meter.read());
    for (let n = 1; n <= 8; n++) await finish(broker.send(orders, n));
    await pass(10_000);
    const reading = await finish(meter.read());
    expect(reading).toMatchObject({ handled: 6, deadLettered: 2 });
    expect(reading.drainPerSecond).toBeGreaterThan(0.7);
    await finish(broker.stop());
  });

  it("tells no age of an empty queue, and the age of the last one started while none is started", async () => {
    const { meter, consumer, begin, end, pass, finish } = shop(1, 10, 1);
    await begin();
    await pass(5_000);
    expect((await finish(meter.read())).oldestAgeMs).toBe(0);
    consumer.pause();
    await pass(30_000);
    const paused = await finish(meter.read());
    await pass(30_000);
    const longer = await finish(meter.read());
    expect(paused.oldestAgeMs).toBeGreaterThan(29_000);
    expect((longer.oldestAgeMs as number) - (paused.oldestAgeMs as number)).toBe(30_000);
    consumer.resume();
    await pass(1_000);
    // What was started last had waited long; now nothing waits.
    expect(await finish(meter.read())).toMatchObject({ depth: 0, oldestAgeMs: 0 });
    await end();
  });

  it("takes no retry for a message that has waited", async () => {
    const { clock, pass } = virtualWorld("meter");
    const meter = new HandlingMeter(clock);
    const handler = meter.middleware(() => {});
    const start = (attempt: number, ageMs: number): void => {
      void handler(undefined, { attempt, firstPublishedAt: new Date(clock.now() - ageMs) } as Delivery);
    };
    await pass(1_000);
    start(1, 40);
    start(1, 70);
    start(1, 60);
    start(2, 5_000);
    expect(meter.takeOldestMs()).toBe(70);
    expect(meter.takeOldestMs()).toBe(60);
    // Another machine's clock is ahead.
    start(1, -500);
    expect(meter.takeOldestMs()).toBe(0);
  });

  it("is an iterator with its own pace, and ends with the signal or the loop, without a timer left", async () => {
    const { broker, clock, finish, pass, time, until } = virtualWorld("iterator", { destinations: [orders] });
    await finish(broker.start());
    const meter = backlog(broker, orders, { clock, intervalMs: 7_000 });
    const at: number[] = [];
    const loop = async (): Promise<void> => {
      for await (const reading of meter) {
        at.push(time.now);
        expect(reading.depth).toBe(0);
        if (at.length === 3) break;
      }
    };
    await finish(loop());
    expect(at).toEqual([0, 7_000, 14_000]);
    const ending = new AbortController();
    let count = 0;
    const other = (async () => {
      for await (const _ of meter.readings({ signal: ending.signal })) count++;
    })();
    await pass(10_000);
    ending.abort();
    await finish(other);
    expect(count).toBe(2);
    await finish(broker.stop());
    await until(() => clock.pending === 0);
  });

  it("asks the broker once a second at most, however many read", async () => {
    const { broker, clock, finish, pass } = virtualWorld("shared");
    let asked = 0;
    const depth = async () => {
      asked++;
      return { ready: 0, unsettled: 0, exact: true };
    };
    const meter = backlog({ depth, status: () => broker.status() }, orders, { clock });
    const readings = await finish(Promise.all([meter.read(), meter.read(), meter.read()]));
    expect(new Set(readings).size).toBe(1);
    await pass(999);
    await finish(meter.read());
    expect(asked).toBe(1);
    await pass(1);
    await finish(meter.read());
    expect(asked).toBe(2);
  });

  it("goes on while the broker is away, and rejects for what is not there", async () => {
    const { broker, clock, finish, pass } = virtualWorld("away");
    let error: Error | undefined = new MessagingError("unreachable", "away");
    const depth = () =>
      error === undefined ? Promise.resolve({ ready: 5, unsettled: 1, exact: false }) : Promise.reject(error);
    const meter = backlog({ depth, status: () => broker.status() }, placed, { subscription: "billing", clock });
    expect(await finish(meter.read())).toMatchObject({ source: "placed..billing", depth: undefined });
    error = undefined;
    await pass(2_000);
    expect(await finish(meter.read())).toMatchObject({ depth: 5, unsettled: 1, exact: false });
    error = new MessagingError("not-found", "gone");
    await pass(2_000);
    await expect(finish(meter.read())).rejects.toMatchObject({ code: "not-found" });
  });

  it("refuses what makes no sense", () => {
    const { broker } = virtualWorld("wrong");
    const invalid = expect.objectContaining({ code: "invalid" });
    for (const wrong of [{ targetDelayMs: 0 }, { minConsumers: 3, maxConsumers: 2 }, { windowMs: 10 }, { every: 5 }]) {
      expect(() => backlog(broker, orders, wrong as never), JSON.stringify(wrong)).toThrow(invalid);
    }
    expect(() => backlog(broker, placed)).toThrow(invalid);
    expect(() => backlog(broker, orders, { subscription: "billing" })).toThrow(invalid);
  });
});

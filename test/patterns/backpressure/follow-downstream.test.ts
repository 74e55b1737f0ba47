import { describe, expect, it } from "vitest";
import type { BrokerStatus } from "../../../core/broker.ts";
import { queue } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import {
  admitByDepth,
  controlIntake,
  type FollowOptions,
  followDownstream,
} from "../../../patterns/backpressure/index.ts";
import { ScriptedDepth } from "./scripted-depth.ts";
import { virtualWorld } from "./virtual.ts";

const first = queue<number>("first");
const middle = queue<number>("middle");
const last = queue<number>("last");

/** A consumer of `first` whose downstream is the test's. */
function scripted(options: Partial<FollowOptions> = {}) {
  const world = virtualWorld("follow");
  const depth = new ScriptedDepth();
  const downstream = { connected: true, blocked: undefined as string | undefined, waiting: 0 };
  const status = (): BrokerStatus => ({
    state: "started",
    connected: downstream.connected,
    blocked: downstream.blocked,
    publishing: { messages: 0, bytes: 0, waiting: downstream.waiting },
    consumers: [],
  });
  const following = followDownstream(
    { depth: depth.depth, status },
    { limits: [{ destination: middle, maxDepth: 20, resumeAt: 10 }], pollMs: 100, clock: world.clock, ...options },
  );
  const consumer = controlIntake([following], (use) =>
    world.broker.consume(
      first,
      async () => {
        await world.sleep(10);
        depth.ready++;
      },
      { use, concurrency: 8 },
    ),
  );
  const begin = async (count: number): Promise<void> => {
    await world.finish(world.broker.start());
    await world.finish(
      world.broker.sendMany(
        first,
        Array.from({ length: count }, (_, body) => ({ body })),
      ),
    );
  };
  return { ...world, depth, downstream, consumer, begin };
}

describe("followDownstream", () => {
  it("bounds the queue between two stages to the message, with every stage's work done in the end", async () => {
    const { broker, clock, finish, sleep, until, time } = virtualWorld("pipeline");
    const count = 500;
    const limits = { first: 60, middle: 40, last: 25 };
    const follow = (to: typeof middle, maxDepth: number) =>
      followDownstream(broker, { limits: [{ destination: to, maxDepth }], pollMs: 50, clock });
    const one = controlIntake([follow(middle, limits.middle)], (use) =>
      broker.consume(first, async (n) => void (await broker.send(middle, n)), { use, concurrency: 30 }),
    );
    const two = controlIntake([follow(last, limits.last)], (use) =>
      broker.consume(middle, async (n) => void (await broker.send(last, n)), { use, concurrency: 30 }),
    );
    const handled: number[] = [];
    broker.consume(
      last,
      async (n) => {
        await sleep(200);
        handled.push(n);
      },
      { concurrency: 2 },
    );
    await finish(broker.start());
    const admitting = admitByDepth(broker, {
      limits: [{ destination: first, maxDepth: limits.first }],
      pollMs: 50,
      clock,
    });
    const sends = Array.from({ length: count }, (_, n) => admitting.send(first, n, { timeoutMs: 600_000 }));
    const sent = Promise.all(sends);
    const most = { first: 0, middle: 0, last: 0 };
    while (handled.length < count) {
      for (const stage of [first, middle, last]) {
        const name = stage.name as keyof typeof most;
        const { ready } = await finish(broker.depth(stage));
        most[name] = Math.max(most[name], ready);
      }
      const from = time.now;
      await until(() => time.now >= from + 20 || handled.length === count);
    }
    await finish(sent);
    expect([...handled].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, n) => n));
    // Every queue was filled, so the slow stage was felt up to the publisher; and none over its limit.
    for (const stage of ["first", "middle", "last"] as const) {
      expect(most[stage], stage).toBeLessThanOrEqual(limits[stage]);
      expect(most[stage], stage).toBeGreaterThanOrEqual(limits[stage] / 2);
    }
    for (const consumer of [one, two]) expect(consumer.status()).toMatchObject({ failed: 0, postponed: 0 });
    await finish(broker.stop());
  });

  it("without it the middle queue holds nearly everything", async () => {
    const { broker, finish, sleep, until } = virtualWorld("unlinked");
    broker.consume(first, async (n) => void (await broker.send(middle, n)));
    const slow = broker.consume(middle, () => sleep(1_000), { concurrency: 1 });
    await finish(broker.start());
    await finish(
      broker.sendMany(
        first,
        Array.from({ length: 200 }, (_, body) => ({ body })),
      ),
    );
    await until(() => slow.status().succeeded === 5);
    const { ready, unsettled } = await finish(broker.depth(middle));
    expect(ready + (unsettled ?? 0)).toBeGreaterThan(150);
    await finish(broker.stop({ timeoutMs: 2_000 }));
  });

  it("stops at the high mark and goes on from the low mark down", async () => {
    const { begin, broker, consumer, depth, finish, pass } = scripted();
    await begin(100);
    await pass(5_000);
    expect(depth.ready).toBe(20);
    expect(consumer.status().state).toBe("paused");
    depth.ready = 11;
    await pass(5_000);
    expect(depth.ready).toBe(11);
    depth.ready = 10;
    await pass(5_000);
    expect(depth.ready).toBe(20);
    expect(consumer.status()).toMatchObject({ started: 30, failed: 0, postponed: 0 });
    await finish(broker.stop());
  });

  it("counts what each message may become", async () => {
    const { begin, broker, consumer, finish, pass } = scripted({ perMessage: 5 });
    await begin(100);
    await pass(50);
    expect(consumer.status().started).toBe(4);
    await finish(broker.stop());
  });

  it("stands still while the downstream broker is away, refuses messages, or lets sends wait", async () => {
    const { begin, broker, consumer, depth, downstream, finish, pass } = scripted();
    await begin(100);
    const standsStill = async (): Promise<void> => {
      depth.ready = 0;
      await pass(3_000);
      const { started } = consumer.status();
      depth.ready = 0;
      await pass(3_000);
      expect(consumer.status()).toMatchObject({ state: "paused", started });
    };
    const goesOn = async (): Promise<void> => {
      const { started } = consumer.status();
      depth.ready = 0;
      await pass(1_000);
      expect(consumer.status().started).toBeGreaterThan(started);
    };
    await goesOn();
    downstream.connected = false;
    await standsStill();
    downstream.connected = true;
    await goesOn();
    downstream.blocked = "memory";
    await standsStill();
    downstream.blocked = undefined;
    downstream.waiting = 1;
    await standsStill();
    downstream.waiting = 0;
    await goesOn();
    await finish(broker.stop());
  });

  it("handles one at a time while the depth cannot be had", async () => {
    const { begin, broker, consumer, depth, finish, pass, until } = scripted();
    depth.error = new MessagingError("unauthorized", "not allowed to look");
    await begin(40);
    let most = 0;
    while (consumer.status().succeeded < 40) {
      await pass(5);
      most = Math.max(most, consumer.status().running);
    }
    expect(most).toBe(1);
    depth.error = undefined;
    depth.ready = 0;
    await finish(
      broker.sendMany(
        first,
        Array.from({ length: 8 }, (_, body) => ({ body })),
      ),
    );
    await until(() => consumer.status().concurrency === 8);
    await finish(broker.stop());
  });

  it("lets go of its timer when the consumer stops, and follows again after the next start", async () => {
    const { begin, broker, clock, consumer, depth, finish, pass, until } = scripted();
    await begin(100);
    await until(() => consumer.status().state === "paused");
    await finish(broker.stop());
    await until(() => clock.pending === 0);
    await finish(broker.start());
    await pass(5_000);
    // One is started before it is seen that the depth is what it was.
    expect(depth.ready).toBeLessThanOrEqual(21);
    depth.ready = 0;
    await pass(1_000);
    expect(depth.ready).toBe(20);
    await finish(consumer.stop());
    await finish(broker.stop());
    await until(() => clock.pending === 0);
  });

  it("refuses what makes no sense", () => {
    const { broker } = virtualWorld("wrong");
    const limits = [{ destination: middle, maxDepth: 5 }];
    for (const wrong of [
      { limits: [] },
      { limits, perMessage: 0 },
      { limits, pollMs: 0 },
      { limits, whenFull: "fail" },
    ]) {
      expect(() => followDownstream(broker, wrong as never), JSON.stringify(wrong)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});

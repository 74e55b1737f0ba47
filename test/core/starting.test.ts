import { describe, expect, it } from "vitest";
import { memory } from "../../adapters/memory/index.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Delivery } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter } from "./recording-adapter.ts";

const absent = new MessagingError("unreachable", "nobody answers at broker:5672");

function world() {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const onEvent = (event: BrokerEvent) => void events.push(event);
  const broker = createBroker(adapter, { clock, random: new Prng("starting"), onEvent });
  /** Why it cannot be opened, before the given time. */
  const awayUntil = (ms: number, why: MessagingError = absent) => {
    const { open } = RecordingAdapter.prototype;
    adapter.open = async (signals) => {
      if (time.now < ms) throw why;
      await open.call(adapter, signals);
    };
  };
  const endOf = async (promise: Promise<void>): Promise<MessagingError | "started"> => {
    let end: MessagingError | "started" | undefined;
    promise.then(
      () => {
        end = "started";
      },
      (error: MessagingError) => {
        end = error;
      },
    );
    expect(await time.until(() => end !== undefined, time.now + 600_000)).toBe(true);
    return end as MessagingError | "started";
  };
  const notices = () => events.flatMap((event) => (event.type === "notice" ? [event.error.message] : []));
  return { time, clock, adapter, broker, awayUntil, endOf, notices };
}

describe("a start before the broker", () => {
  it("is one try, unless it is to wait", async () => {
    const { broker, awayUntil, endOf, notices, time } = world();
    awayUntil(1);
    expect(await endOf(broker.start())).toMatchObject({ code: "start-failed", problems: [absent] });
    expect(time.now).toBe(0);
    expect(notices()).toEqual([]);
  });

  it("waits until the broker is there, and says so at each try", async () => {
    const { broker, awayUntil, endOf, notices, time } = world();
    awayUntil(20_000);
    const consumer = broker.consume(queue("orders"), () => {});
    const started = broker.start({ waitMs: 60_000 });
    await time.until(() => notices().length > 0, 60_000);
    expect(broker.status()).toMatchObject({ state: "starting" });
    expect(await endOf(started)).toBe("started");
    expect(time.now).toBeLessThan(26_000);
    expect(consumer.status().state).toBe("running");
    expect(notices().length).toBeGreaterThan(3);
    expect(notices()[0]).toBe(
      "start waits until recording answers: attempt 1 failed, 60 s left; nobody answers at broker:5672",
    );
    await endOf(broker.stop());
  });

  it("ends in time with what was wrong, and how often it was tried", async () => {
    const { broker, awayUntil, endOf, time } = world();
    awayUntil(Number.POSITIVE_INFINITY);
    const error = (await endOf(broker.start({ waitMs: 10_000 }))) as MessagingError;
    expect(time.now).toBe(10_000);
    expect(error).toMatchObject({ code: "start-failed", problems: [absent] });
    expect(error.message).toMatch(
      /^start found a problem after \d+ tries in 10000 ms \(waitMs\), and nothing was left open:\n {2}- unreachable: nobody/,
    );
    expect(broker.status()).toMatchObject({ state: "stopped", connected: false });
  });

  it.each(["unauthorized", "conflict", "not-found", "unsupported"] as const)(
    "does not wait for what is %s",
    async (code) => {
      const { broker, awayUntil, endOf, notices, time } = world();
      awayUntil(1, new MessagingError(code, "no"));
      expect(await endOf(broker.start({ waitMs: 60_000 }))).toMatchObject({ problems: [{ code }] });
      expect([time.now, notices()]).toEqual([0, []]);
    },
  );

  it("ends at a stop, also at one that was asked for in the same turn", async () => {
    for (const waitFirst of [true, false]) {
      const { broker, awayUntil, endOf, notices, time } = world();
      awayUntil(Number.POSITIVE_INFINITY);
      const started = broker.start({ waitMs: 600_000 });
      const end = endOf(started);
      if (waitFirst) await time.until(() => notices().length === 4, 60_000);
      const from = time.now;
      expect(await endOf(broker.stop())).toBe("started");
      expect(await end).toMatchObject({ code: "start-failed" });
      expect(time.now - from).toBe(0);
      expect(broker.status().state).toBe("stopped");
    }
  });

  it("refuses what is no time to wait", () => {
    const { broker } = world();
    for (const options of [{ waitMs: -1 }, { waitMs: Number.NaN }, { wait: 5 }, null]) {
      expect(() => broker.start(options as never)).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });
});

describe("the time that a handler has", () => {
  it("is told as a date, and as what is left of it", async () => {
    const { broker, adapter, time, clock, endOf } = world();
    const seen: { readonly at: number; readonly left: number[] }[] = [];
    const handle = async (_: unknown, delivery: Delivery): Promise<void> => {
      const left = [delivery.remainingMs];
      seen.push({ at: delivery.deadlineAt.getTime() - clock.now(), left });
      await new Promise<void>((resolve) => void clock.schedule(resolve, 1_500));
      left.push(delivery.remainingMs);
      await new Promise<void>((resolve) => delivery.signal.addEventListener("abort", () => resolve()));
      left.push(delivery.remainingMs);
    };
    broker.consume(queue("orders"), handle, { timeoutMs: 2_000 });
    await endOf(broker.start());
    adapter.opened.find(({ from }) => from.kind === "queue")?.sink.deliver([incoming("m-1")]);
    expect(await time.until(() => seen[0]?.left.length === 3, 60_000)).toBe(true);
    expect(seen[0]).toEqual({ at: 2_000, left: [2_000, 500, 0] });
    await endOf(broker.stop());
  });

  it("is a date however long it is", async () => {
    const dates: number[] = [];
    const broker = createBroker(memory());
    const orders = queue("orders");
    broker.consume(orders, (_, { deadlineAt }) => void dates.push(deadlineAt.getTime()), {
      timeoutMs: Number.MAX_SAFE_INTEGER,
    });
    await broker.start();
    await broker.send(orders, 1);
    await expect.poll(() => dates).toEqual([8.64e15]);
    await broker.stop();
  });
});

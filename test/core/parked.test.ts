import { describe, expect, it } from "vitest";
import { deadLetter } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { incoming, settled } from "./recording-adapter.ts";
import { HOUR_MS, refusingWorld } from "./refusing-world.ts";

const work = queue<unknown>("work");
const inOrder = queue<unknown>("in-order", { ordered: true });
const rejected = () => deadLetter("not this one");

describe("a dead letter that nothing takes", () => {
  const six = Array.from({ length: 6 }, (_, index) => `bad-${index}`);
  const twenty = Array.from({ length: 20 }, (_, index) => `good-${index}`);

  it("is parked: the others go on, the consumer says why it is stalled, and a stop does not wait", async () => {
    const { time, clock, broker, refuse, opened, until, finish, eventsOf } = refusingWorld();
    const handled: string[] = [];
    const consumer = broker.consume(
      work,
      (_, { id }) => {
        if (id.startsWith("bad")) return deadLetter("no");
        handled.push(id);
      },
      { concurrency: 2, prefetch: { messages: 5 } },
    );
    await finish(broker.start());
    refuse("dead-letters", "unauthorized");
    const source = opened();
    const waiting = [...six, ...twenty];
    // As a broker does: never more unsettled than the prefetch.
    const feed = (): boolean => {
      const { unsettled } = consumer.status();
      if (unsettled < source.prefetch && waiting.length > 0) {
        source.sink.deliver(waiting.splice(0, source.prefetch - unsettled).map((id) => incoming(id)));
      }
      return waiting.length === 0 && consumer.status().unsettled === 6;
    };
    await until("the good ones to be handled", feed);
    expect(handled).toEqual(twenty);
    expect(consumer.status()).toMatchObject({
      parked: 6,
      unsettled: 6,
      state: "stalled",
      prefetch: 10,
      deadLettered: 0,
    });
    expect(consumer.status().error).toMatchObject({ code: "unauthorized" });
    expect(eventsOf("parked")).toHaveLength(6);
    expect(eventsOf("stalled")).toHaveLength(1);
    const before = time.now;
    await finish(broker.stop({ timeoutMs: 30_000 }));
    expect(time.now).toBe(before);
    expect(source.settled.filter(({ action }) => action === "requeue")).toHaveLength(6);
    expect(clock.pending).toBe(0);
  });

  it("counts in the prefetch from the bound on", async () => {
    const { broker, refuse, opened, until, finish } = refusingWorld();
    const options = { concurrency: 1, prefetch: { messages: 3 }, maxParked: 2 };
    const consumer = broker.consume(work, rejected, options);
    await finish(broker.start());
    refuse("dead-letters", "not-found");
    opened().sink.deliver(["1", "2", "3", "4"].map((id) => incoming(id)));
    await until("all to be parked", () => consumer.status().parked === 4);
    // Twice the concurrency, and two beside.
    expect(opened().prefetch).toBe(4);
    await finish(broker.stop());
  });

  it("takes no more memory than a prefetch", async () => {
    const { broker, refuse, opened, until, finish } = refusingWorld();
    const options = { concurrency: 1, prefetch: { messages: 10, bytes: 1_000 } };
    const consumer = broker.consume(work, rejected, options);
    await finish(broker.start());
    refuse("dead-letters", "not-found");
    const body = Buffer.from(`"${"x".repeat(398)}"`);
    for (const id of ["1", "2"]) opened().sink.deliver([incoming(id, { body })]);
    await until("both to be parked", () => consumer.status().parked === 2);
    expect(opened().prefetch).toBeGreaterThan(2);
    for (const id of ["3", "4", "5"]) opened().sink.deliver([incoming(id, { body })]);
    await until("all to be parked", () => consumer.status().parked === 5);
    // Two beside the prefetch, and three in it, which are over its bytes.
    expect(opened().prefetch).toBe(2);
    await finish(broker.stop());
  });

  it("is tried again at growing intervals", async () => {
    const { time, broker, refuse, opened, sentTo, pass, finish } = refusingWorld();
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    refuse("dead-letters", "unauthorized");
    opened().sink.deliver([incoming("1")]);
    await settled();
    const tries: number[] = [];
    for (let last = sentTo("dead-letters").length; tries.length < 7; last = sentTo("dead-letters").length) {
      const from = time.now;
      await time.until(() => sentTo("dead-letters").length > last, from + HOUR_MS);
      tries.push(time.now - from);
    }
    expect(tries[0]).toBeGreaterThanOrEqual(30_000);
    for (const [index, ms] of tries.entries()) {
      const least = Math.min(30_000 * 2 ** index, 600_000);
      expect(ms).toBeGreaterThanOrEqual(least);
      expect(ms).toBeLessThanOrEqual(2 * least);
    }
    refuse("dead-letters", "unauthorized");
    await pass(1);
    expect(consumer.status().parked).toBe(1);
    await finish(broker.stop());
  });

  it("goes as soon as something suggests that it may", async () => {
    const { adapter, broker, refuse, opened, finish, eventsOf } = refusingWorld();
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    const parks = async (id: string): Promise<void> => {
      refuse("dead-letters", "unauthorized");
      opened().sink.deliver([incoming(id)]);
      await settled();
      expect(consumer.status()).toMatchObject({ parked: 1, state: "stalled" });
      adapter.refusal = undefined;
    };
    const goes = async (): Promise<void> => {
      await settled();
      expect(consumer.status()).toMatchObject({ parked: 0, unsettled: 0, error: undefined, state: "running" });
    };
    await parks("1");
    consumer.resume();
    await goes();
    await parks("2");
    adapter.signals?.up();
    await goes();
    await parks("3");
    opened().sink.deliver([incoming("another")]);
    await goes();
    expect(eventsOf("flowing")).toHaveLength(3);
    expect(consumer.status().deadLettered).toBe(4);
    await finish(broker.stop());
  });

  it("goes back when it is asked back, or when a pause gives back", async () => {
    const { broker, refuse, opened, finish } = refusingWorld();
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    refuse("dead-letters", "unauthorized");
    opened().sink.deliver([incoming("asked back"), incoming("paused")]);
    await settled();
    opened().sink.revoke(["asked back"]);
    await settled();
    expect(opened().settled).toEqual([{ token: "asked back", action: "requeue" }]);
    consumer.pause({ requeue: true });
    await settled();
    expect(opened().settled[1]).toEqual({ token: "paused", action: "requeue" });
    expect(consumer.status()).toMatchObject({ parked: 0, unsettled: 0 });
    await finish(broker.stop());
  });

  it("keeps its key waiting, and no other", async () => {
    const { adapter, broker, refuse, opened, finish } = refusingWorld();
    const handled: string[] = [];
    const consumer = broker.consume(inOrder, (_, { id }) => {
      if (id === "a1") return deadLetter("no");
      handled.push(id);
    });
    await finish(broker.start());
    refuse("dead-letters", "unauthorized");
    opened().sink.deliver(["a1", "a2", "b1", "b2"].map((id) => incoming(id, { key: id.slice(0, 1) })));
    await settled();
    expect(handled).toEqual(["b1", "b2"]);
    expect(consumer.status()).toMatchObject({ parked: 1, waiting: 1, state: "stalled" });
    adapter.refusal = undefined;
    consumer.resume();
    await settled();
    expect(handled).toEqual(["b1", "b2", "a2"]);
    await finish(broker.stop());
  });

  it("is parked too where it stays unclear why it is not confirmed", async () => {
    const { broker, refuse, opened, until, finish, sentTo } = refusingWorld();
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    refuse("dead-letters", "refused");
    opened().sink.deliver([incoming("1")]);
    await until("it to be parked", () => consumer.status().parked === 1);
    expect(sentTo("dead-letters")).toHaveLength(6);
    await finish(broker.stop());
  });
});

it("shows the id that a sender chose on one line, and cut", async () => {
  const { broker, refuse, opened, until, finish, eventsOf } = refusingWorld();
  const consumer = broker.consume(work, rejected);
  await finish(broker.start());
  refuse("dead-letters", "unauthorized");
  const id = `m\n\u001b[31m${"z".repeat(100_000)}`;
  opened().sink.deliver([incoming(id)]);
  await until("it to be parked", () => consumer.status().parked === 1);
  const [event] = eventsOf("parked");
  // The id itself is data, and stays whole.
  expect(event).toMatchObject({ id, error: { message: expect.stringContaining("message m??[31mzzz") } });
  for (const shown of [event, ...eventsOf("stalled")]) {
    const { message } = (shown as { readonly error: Error }).error;
    expect(message.length).toBeLessThan(600);
    expect(message).not.toMatch(/\p{Cc}/u);
  }
  await finish(broker.stop());
});

import { expect, test } from "vitest";
import { readReference } from "../../../adapters/kafka/dead-letters/references.ts";
import { DelayForwarder, type ForwarderDependencies } from "../../../adapters/kafka/delays/forwarder.ts";
import { DELAY_HEADER, delayedRecord, dueAfter, undelayedRecord } from "../../../adapters/kafka/delays/levels.ts";
import type { RecordToSend } from "../../../adapters/kafka/producing/producer.ts";
import { CopiedHeaders, NULL_VALUE } from "../../../adapters/kafka/records/read.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeConsumer, FakeTopics, Progress } from "./fake-topic.ts";

const DELAYS = "orders.delays";
const ORDERS = { kind: "queue", name: "orders" } as const;
const DEAD_LETTERS = { kind: "dead-letters", of: ORDERS } as const;
const OF = { topic: "orders", delays: DELAYS, group: DELAYS, deadLetters: DEAD_LETTERS };
const EVENTS = { ...OF, deadLetters: undefined };
const HOUR = 3_600_000;

function world(seed = "delays") {
  const time = new VirtualTime();
  const topics = new FakeTopics(time);
  const progress = new Progress();
  const prng = new Prng(seed);
  const notices: MessagingError[] = [];
  const sender = new ProcessClock(time);

  /** A process that forwards. */
  function forward(overrides: Partial<ForwarderDependencies> = {}, of: typeof OF | typeof EVENTS = OF) {
    const clock = new ProcessClock(time);
    const consumers: FakeConsumer[] = [];
    const forwarder = new DelayForwarder(
      {
        producer: topics.producer,
        clock,
        random: prng,
        passesUnreadable: true,
        references: async () => new Map(),
        openConsumer: async (options, sink) => {
          const consumer = new FakeConsumer(topics, progress, time, options, sink);
          consumers.push(consumer);
          return consumer;
        },
        notice: (error) => notices.push(error),
        ...overrides,
      },
      of,
    );
    return { clock, forwarder, consumers };
  }

  function send(id: string, delayMs: number, record: Partial<RecordToSend> = {}): void {
    const whole = { key: Buffer.from("key"), value: Buffer.from(id), headers: [["a", "é"] as const], ...record };
    const now = sender.now();
    topics.append(DELAYS, delayedRecord(whole, dueAfter(now, delayMs), now));
  }

  const arrived = () => topics.arrivals.filter(({ topic }) => topic === "orders");
  const ids = () => arrived().map(({ record }) => Buffer.from(record.value ?? []).toString());
  return { time, topics, progress, prng, notices, forward, send, arrived, ids };
}

/** Lets so much time go by, with everything that happens in it. */
async function pass(time: VirtualTime, ms: number): Promise<void> {
  let isOver = false;
  time.schedule(() => {
    isOver = true;
  }, ms);
  await time.until(() => isOver, Number.POSITIVE_INFINITY);
}

test("what is delayed goes to the level of its delay, and says when it is due", () => {
  const record = { key: Buffer.from("k"), value: Buffer.from("v"), headers: [["a", "b"] as const], partition: 3 };
  expect(delayedRecord(record, 70_000, 2_000)).toEqual({
    ...record,
    headers: [
      ["a", "b"],
      [DELAY_HEADER, "70000 2000 3"],
    ],
    partition: 4,
  });
});

test("what is delayed keeps headers of another sender that are no texts, have no value, or share their names", () => {
  const headers = [
    ["a", Buffer.of(255)],
    ["a", undefined],
    ["b", Buffer.from("text")],
  ] as const;
  const record = { key: Buffer.of(254), value: undefined, headers };
  const delayed = delayedRecord(record, 70_000, 2_000);
  const names = delayed.headers.map(([name]) => name);
  const values = delayed.headers.map(([, value]) => (value === undefined ? NULL_VALUE : Buffer.from(value as string)));
  const written = new CopiedHeaders({ names, values });
  const stored = { offset: 0, timestamp: 0, key: record.key, value: undefined, written, headers: {} };
  expect(undelayedRecord(stored, undefined)).toEqual(record);
});

test("everything comes out once, unchanged, never early and not much later", async () => {
  const { time, topics, prng, forward, send, arrived, ids, progress } = world();
  forward();
  topics.latency = () => prng.between(1, 20);
  const delays = new Map<string, number>();
  for (let index = 0; index < 300; index++) {
    const delayMs = prng.pick([0, 1, 10, 999, 1_000, prng.between(1_000, 20_000), prng.between(0, 3 * HOUR)]);
    delays.set(`m-${index}`, delayMs);
    send(`m-${index}`, delayMs);
  }
  send("to-partition-5", 5_000, { partition: 5 });
  delays.set("to-partition-5", 5_000);
  expect(await time.until(() => ids().length === delays.size, 4 * HOUR)).toBe(true);
  for (const { record, at } of arrived()) {
    const id = Buffer.from(record.value ?? []).toString();
    const delayMs = delays.get(id) as number;
    expect(at).toBeGreaterThanOrEqual(delayMs);
    expect(at).toBeLessThan(delayMs + 100);
    expect(record.headers.map(([name, value]) => [name, String(value)])).toEqual([["a", "é"]]);
    expect(record.key).toEqual(Buffer.from("key"));
    expect(record.partition).toBe(id === "to-partition-5" ? 5 : undefined);
  }
  expect(new Set(ids()).size).toBe(delays.size);
  // Settled is everything, at every level.
  const stored = topics.partitions(DELAYS).flat();
  expect(await time.until(() => progress.acknowledged.size === stored.length, 5 * HOUR)).toBe(true);
});

test("what has no key, no headers or no body stays so", async () => {
  const { time, forward, send, arrived } = world();
  forward();
  send("", 10, { key: undefined, value: undefined, headers: [] });
  await time.until(() => arrived().length === 1, HOUR);
  expect(arrived()[0]?.record).toEqual({ key: undefined, value: undefined, headers: [] });
});

test("waiting takes no loop", async () => {
  const { time, forward, send, ids } = world();
  const clock = new ProcessClock(time);
  let timers = 0;
  const schedule: typeof clock.schedule = (run, ms) => {
    timers++;
    return clock.schedule(run, ms);
  };
  forward({
    clock: { now: () => clock.now(), monotonic: () => clock.monotonic(), cancel: (t) => clock.cancel(t), schedule },
  });
  for (let index = 0; index < 50; index++) send(`m-${index}`, 4_097_000 + index);
  expect(await time.until(() => ids().length === 50, 2 * HOUR)).toBe(true);
  // It looks at the time of day every ten seconds, at all that waits together.
  expect(timers).toBeLessThan(4_200 / 10 + 200);
});

test("a killed process loses nothing, and nothing comes early of it", async () => {
  const { time, forward, send, arrived, ids, prng } = world();
  let running = forward();
  const delays = new Map<string, number>();
  for (let index = 0; index < 100; index++) {
    const delayMs = prng.between(0, 60_000);
    delays.set(`m-${index}`, delayMs);
    send(`m-${index}`, delayMs);
  }
  for (let kill = 1; kill <= 8; kill++) {
    await pass(time, 6_000 + prng.fraction() * 500);
    running.clock.kill();
    for (const consumer of running.consumers) consumer.isClosed = true;
    running = forward();
  }
  expect(await time.until(() => new Set(ids()).size === 100, HOUR)).toBe(true);
  for (const { record, at } of arrived()) {
    expect(at).toBeGreaterThanOrEqual(delays.get(Buffer.from(record.value ?? []).toString()) as number);
  }
});

test("what is not confirmed is tried again and reported once, and does not hold up others", async () => {
  const { time, topics, forward, send, ids, notices, progress } = world();
  forward();
  let failing = true;
  let tries = 0;
  topics.answer = (topic, { value }) => {
    if (topic !== "orders" || Buffer.from(value ?? []).toString() !== "bad" || !failing) return { status: "confirmed" };
    tries++;
    return { status: "rejected", error: new MessagingError("too-large", "no") };
  };
  send("bad", 100);
  for (let index = 0; index < 20; index++) send(`m-${index}`, 200);
  expect(await time.until(() => ids().length === 20, 10_000)).toBe(true);
  await time.until(() => tries === 6, HOUR);
  expect(tries).toBe(6);
  expect(time.now).toBeGreaterThan(3_000);
  expect(notices.map(({ code }) => code)).toEqual(["too-large"]);
  expect(notices[0]?.message).toContain('"orders"');
  expect(progress.acknowledged.size).toBe(20);
  failing = false;
  expect(await time.until(() => progress.acknowledged.size === 21, HOUR)).toBe(true);
  expect(ids()).toContain("bad");
});

test("an unknown outcome, also of a hop, is no end", async () => {
  const { time, topics, forward, send, ids, prng, progress } = world();
  forward();
  topics.answer = () => (prng.chance(0.5) ? { status: "unknown", cause: new Error("gone") } : { status: "confirmed" });
  for (let index = 0; index < 30; index++) send(`m-${index}`, 5_000);
  expect(await time.until(() => new Set(ids()).size === 30, HOUR)).toBe(true);
  const all = () => progress.acknowledged.size === topics.partitions(DELAYS).flat().length;
  expect(await time.until(all, HOUR)).toBe(true);
});

test("what is lost is not sent, and leaves no timer", async () => {
  const { time, forward, send, ids } = world();
  const { clock, consumers } = forward();
  send("a", 30_000);
  send("b", 500);
  await time.until(() => consumers[0]?.held.size === 2, 100);
  consumers[0]?.lose();
  expect(clock.pending).toBe(0);
  await pass(time, 60_000);
  expect(ids()).toEqual([]);
});

test("what is asked back is released, unless it is on its way, and then settled", async () => {
  const { time, topics, forward, send } = world();
  const { consumers } = forward();
  topics.latency = () => 400;
  send("on its way", 100);
  send("waits", 30_000);
  await time.until(() => topics.sends === 1, 1_000);
  const [consumer] = consumers;
  if (consumer === undefined) throw new Error("there is no consumer");
  consumer.prefetch(0);
  const asked = [...consumer.held];
  expect(asked).toHaveLength(2);
  consumer.sink.revoke(asked);
  await time.until(() => consumer.settled.length === 2, 5_000);
  const byId = consumer.settled.map(({ token, action }) => {
    return [(token as { record: { value: Buffer } }).record.value.toString(), action];
  });
  expect(byId).toEqual([
    ["waits", "requeue"],
    ["on its way", "ack"],
  ]);
});

test("a clock that is set back does not make it early, and one set forward is noticed", async () => {
  const { time, forward, send, arrived } = world();
  const clock = new ProcessClock(time);
  let ahead = 0;
  forward({
    clock: {
      now: () => clock.now() + ahead,
      monotonic: () => clock.monotonic(),
      schedule: (run, ms) => clock.schedule(run, ms),
      cancel: (timer) => clock.cancel(timer),
    },
  });
  send("a", 900);
  await pass(time, 500);
  ahead = -2_000;
  expect(await time.until(() => arrived().length === 1, HOUR)).toBe(true);
  expect(arrived()[0]?.at).toBeGreaterThanOrEqual(2_900);
  send("b", 4_000_000);
  await pass(time, 10_000);
  const before = time.now;
  ahead = 4_000_000;
  expect(await time.until(() => arrived().length === 2, 2 * HOUR)).toBe(true);
  expect((arrived()[1]?.at ?? 0) - before).toBeLessThan(11_000);
});

test("a record that somebody else wrote goes on at once, and people are told", async () => {
  const { time, topics, forward, ids, notices } = world();
  forward();
  topics.append(DELAYS, { key: undefined, value: Buffer.from("foreign"), headers: [], partition: 7 });
  await time.until(() => ids().length === 1, 1_000);
  expect(ids()).toEqual(["foreign"]);
  expect(notices.map(({ code }) => code)).toEqual(["invalid"]);
  expect(notices[0]?.message).not.toContain("foreign");
});

test("a record in the lowest level that is due in ages moves to the highest, and holds nothing up", async () => {
  const { time, topics, forward, progress } = world();
  forward();
  const headers = [[DELAY_HEADER, "8640000000000000 0"]] as const;
  const hog = topics.append(DELAYS, { key: undefined, value: Buffer.from("hog"), headers, partition: 0 });
  expect(await time.until(() => progress.acknowledged.has(hog), HOUR)).toBe(true);
  expect(topics.partitions(DELAYS)[7]?.map(({ value }) => String(value))).toEqual(["hog"]);
});

const UNREADABLE = new MessagingError("too-large", "it inflates to more than 64 MiB");

test("an unreadable batch becomes a dead letter that refers to it, stays in the log, and holds nothing up", async () => {
  const { time, topics, progress, forward, send, ids, notices } = world();
  const { consumers } = forward();
  const batch = topics.appendUnreadable(DELAYS, 0, UNREADABLE);
  let refusals = 2;
  topics.answer = (topic) =>
    topic === "orders.dlq" && refusals-- > 0
      ? { status: "unknown", cause: new Error("gone") }
      : { status: "confirmed" };
  send("behind it", 100);
  expect(await time.until(() => ids().length === 1 && progress.acknowledged.size === 2, HOUR)).toBe(true);
  expect(ids()).toEqual(["behind it"]);
  expect(progress.acknowledged).toContain(batch);
  const dead = topics.arrivals.filter(({ topic }) => topic === "orders.dlq").map(({ record }) => record);
  expect(readReference(Buffer.from(dead.at(-1)?.value ?? []))).toEqual({
    topic: DELAYS,
    partition: 0,
    offset: 0,
    lastOffset: 0,
    records: 3,
    timestamp: 5,
  });
  const headers = Object.fromEntries(dead.at(-1)?.headers ?? []);
  expect(headers).toMatchObject({
    [HEADER.deadReason]: "invalid",
    [HEADER.deadOrigin]: 'queue "orders"',
    [HEADER.deadError]: UNREADABLE.message,
    [HEADER.deadReference]: `${DELAYS}/0/0`,
  });
  expect(consumers[0]?.kept).toEqual([batch]);
  expect(consumers[0]?.referencesUnderWay).toBe(0);
  expect(notices.map(({ code, cause }) => [code, cause])).toEqual([["too-large", UNREADABLE]]);
  expect(consumers[0]?.options).toMatchObject({ deliversUnreadable: true, references: expect.any(Function) });
});

test("an unreadable batch of delayed events, which have no dead letters, stays in the log for good", async () => {
  const { time, topics, progress, forward, send, ids, notices } = world();
  const { consumers } = forward({}, EVENTS);
  const batch = topics.appendUnreadable(DELAYS, 0, UNREADABLE);
  send("behind it", 100);
  expect(await time.until(() => ids().length === 1 && progress.acknowledged.size === 2, HOUR)).toBe(true);
  expect(consumers[0]?.kept).toEqual([batch]);
  // No review may end that.
  expect(consumers[0]?.referencesUnderWay).toBe(1);
  expect(consumers[0]?.options.references).toBeUndefined();
  expect(notices.map(({ code }) => code)).toEqual(["too-large"]);
});

test("who wants partitions to stop at an unreadable batch has levels stop there as well", async () => {
  const { time, forward } = world();
  const { consumers } = forward({ passesUnreadable: false });
  await time.until(() => consumers.length > 0, 1_000);
  expect(consumers[0]?.options.deliversUnreadable).toBe(false);
});

test("large messages are read ahead singly", async () => {
  const { time, forward, send, ids } = world();
  const { consumers } = forward();
  send("x".repeat(8 * 1024 * 1024), 500);
  await time.until(() => ids().length === 1, 5_000);
  expect(consumers[0]?.windows.at(-1)).toBe(1);
});

test("a send that is not confirmed is told when it lasts", async () => {
  const { time, topics, forward, send, ids, notices } = world();
  forward();
  const began = time.now;
  topics.answer = () =>
    time.now - began < 5_000 ? { status: "unknown", cause: new Error("no") } : { status: "confirmed" };
  send("a", 10);
  expect(await time.until(() => ids().length > 0 && time.now > 5_000, HOUR)).toBe(true);
  expect(notices).toEqual([]);
  const again = time.now;
  topics.answer = () =>
    time.now - again < 25_000 ? { status: "unknown", cause: new Error("no") } : { status: "confirmed" };
  send("b", 10);
  expect(await time.until(() => ids().includes("b") && time.now > again + 25_000, HOUR)).toBe(true);
  expect(notices.map(({ code }) => code)).toEqual(["unconfirmed"]);
});

test("it tries to read until it can, and says so when that takes long", async () => {
  const { time, topics, progress, forward, send, ids, notices } = world();
  let refusals = 10;
  forward({
    openConsumer: async (options, sink) => {
      if (refusals-- > 0) throw new MessagingError("not-found", "no such topic");
      return new FakeConsumer(topics, progress, time, options, sink);
    },
  });
  send("a", 100);
  expect(await time.until(() => ids().length === 1, HOUR)).toBe(true);
  expect(notices.map(({ code }) => code)).toEqual(["not-found"]);
});

test("closing ends the tries to read", async () => {
  const { time, forward } = world();
  const { clock, forwarder } = forward({
    openConsumer: () => Promise.reject(new MessagingError("unreachable", "no broker")),
  });
  await time.until(() => clock.pending === 1, 0);
  expect(clock.pending).toBe(1);
  await forwarder.close();
  expect(clock.pending).toBe(0);
});

test("closing waits for what is on its way, settles it, and leaves the rest", async () => {
  const { time, topics, forward, send, ids, progress } = world();
  const { clock, forwarder, consumers } = forward();
  topics.latency = () => 300;
  send("on its way", 10);
  send("waits", 20_000);
  await time.until(() => topics.sends === 1, 1_000);
  let closed = false;
  const closing = forwarder.close().then(() => {
    closed = true;
  });
  expect(await time.until(() => closed, 5_000)).toBe(true);
  await closing;
  expect(ids()).toEqual(["on its way"]);
  expect(progress.acknowledged.size).toBe(1);
  expect(consumers[0]?.isClosed).toBe(true);
  expect(clock.pending).toBe(0);
  await forwarder.close();
});

test("closing does not wait forever for a send", async () => {
  const { time, topics, forward, send, progress } = world();
  const { forwarder, consumers } = forward();
  topics.answer = () => "never";
  send("a", 10);
  await time.until(() => topics.sends === 1, 1_000);
  let closed = false;
  void forwarder.close().then(() => {
    closed = true;
  });
  expect(await time.until(() => closed, 10_000)).toBe(true);
  expect(consumers[0]?.isClosed).toBe(true);
  expect(progress.acknowledged.size).toBe(0);
});

test("what says a partition that its destination does not have goes where its key belongs", async () => {
  const { time, topics, forward, send, ids } = world();
  forward();
  topics.answer = (topic, { partition = 0 }) =>
    topic === "orders" && partition > 7
      ? { status: "rejected", error: new MessagingError("not-found", "fewer partitions") }
      : { status: "confirmed" };
  send("odd", 10, { partition: 4_000_000_000 });
  send("even", 10, { partition: 7 });
  await pass(time, HOUR);
  expect(ids().sort()).toEqual(["even", "odd"]);
});

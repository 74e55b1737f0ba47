import { describe, expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import type { ConsumeOptions } from "../../core/options.ts";
import { HEADER } from "../../core/system-headers.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, RecordingAdapter, settled } from "./recording-adapter.ts";

const SILENCE_MS = 60_000;
const OTHER = "another-consumer";

type State = "started" | "running" | "over";

/** A consumer of attempts: 5, to which a message that was redelivered twice is in quarantine. */
async function world(options: ConsumeOptions = {}, ordered = false) {
  const time = new VirtualTime();
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const broker = createBroker(adapter, {
    clock: new ProcessClock(time),
    random: new Prng("quarantine"),
    onEvent: (event) => events.push(event),
  });
  const started: string[] = [];
  const attempts = new Map<string, number>();
  const ends = new Map<string, () => void>();
  const consumer = broker.consume(
    queue<unknown>("work", { ordered }),
    (_, { id, attempt }) => {
      started.push(id);
      attempts.set(id, attempt);
      return new Promise<void>((resolve) => ends.set(id, resolve));
    },
    { concurrency: 4, ...options },
  );
  const finish = async (promise: Promise<unknown>): Promise<void> => {
    let done = false;
    promise.finally(() => {
      done = true;
    });
    expect(await time.until(() => done, time.now + 600_000)).toBe(true);
    await promise;
  };
  await finish(broker.start());
  const [opened] = adapter.opened;
  if (opened === undefined) throw new Error("nothing was opened");
  /** What another consumer wrote, or may have. */
  const noted = (of: string, sequence: number, state: State = "started", { by = OTHER, alone = false } = {}): void => {
    adapter.records.push(JSON.stringify({ by, of: `${of} 0 0`, alone, state, sequence }));
  };
  const own = (): readonly { of: string; state: State; alone: boolean }[] =>
    adapter.records.map((record) => JSON.parse(record)).filter(({ by, asks }) => !by.startsWith(OTHER) && !asks);
  const pass = async (ms: number): Promise<void> => {
    let isOver = false;
    time.schedule(() => {
      isOver = true;
    }, ms);
    await time.until(() => isOver, time.now + ms);
  };
  const until = async (what: string, condition: () => boolean): Promise<void> => {
    expect(await time.until(condition, time.now + 600_000), what).toBe(true);
  };
  const end = async (id: string): Promise<void> => {
    ends.get(id)?.();
    await settled();
  };
  return { time, adapter, broker, consumer, opened, events, started, attempts, noted, own, pass, until, end, finish };
}

const redelivered = (id: string, key?: string) => incoming(id, { key, redeliveries: 2 });

describe("a message that was redelivered often", () => {
  it("starts behind a note, and its end is written", async () => {
    const { opened, started, attempts, own, consumer, end, pass } = await world();
    opened.sink.deliver([redelivered("1"), incoming("2", { redeliveries: 1 })]);
    expect(started).toEqual(["2"]);
    expect(consumer.status()).toMatchObject({ quarantined: 1, unsettled: 2 });
    await settled();
    expect(started).toEqual(["2", "1"]);
    expect(attempts.get("1")).toBe(1);
    expect(own()).toMatchObject([{ of: "1 0 0", state: "started", alone: false }]);
    await pass(SILENCE_MS);
    expect(own().filter(({ state }) => state === "running").length).toBeGreaterThanOrEqual(3);
    await end("1");
    expect(own().at(-1)).toMatchObject({ of: "1 0 0", state: "over" });
    const written = own().length;
    await pass(SILENCE_MS);
    expect(own()).toHaveLength(written);
    expect(consumer.status()).toMatchObject({ quarantined: 0, succeeded: 1 });
  });

  it("waits while its last consumer may live, and others do not", async () => {
    const { opened, started, attempts, noted, pass, until, end } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1")]);
    await pass(SILENCE_MS * 0.9);
    opened.sink.deliver([incoming("2"), redelivered("3")]);
    await settled();
    expect(started).toEqual(["2", "3"]);
    await end("2");
    await end("3");
    await until("it to start", () => started.includes("1"));
    expect(attempts.get("1"), "a crash is an attempt").toBe(2);
  });

  it.each<[string, State]>([
    ["has ended its note", "over"],
    ["is heard", "running"],
  ])("is nobody's crash where its last consumer %s", async (_, state) => {
    const { opened, started, attempts, noted, pass } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1")]);
    await pass(SILENCE_MS / 2);
    expect(started).toEqual([]);
    noted("1", 2, state);
    await pass(SILENCE_MS / 4);
    expect(started).toEqual(["1"]);
    expect(attempts.get("1")).toBe(1);
  });

  it("runs with nothing beside it after a crash", async () => {
    const { opened, started, noted, own, pass, end } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1"), incoming("2")]);
    await pass(2 * SILENCE_MS);
    opened.sink.deliver([incoming("3")]);
    await settled();
    expect(started, "while another handler runs, neither it nor anything else starts").toEqual(["2"]);
    await end("2");
    expect(started).toEqual(["2", "1"]);
    expect(own().at(-1)).toMatchObject({ state: "started", alone: true });
    await end("1");
    expect(started).toEqual(["2", "1", "3"]);
  });

  it("is dead after two crashes of consumers that ran nothing else", async () => {
    const { opened, started, noted, until, adapter, consumer } = await world();
    noted("1", 1);
    noted("1", 1, "started", { by: `${OTHER} 2`, alone: true });
    noted("1", 7, "running", { by: `${OTHER} 3`, alone: true });
    noted("2", 1);
    noted("2", 1, "started", { by: `${OTHER} 2`, alone: true });
    opened.sink.deliver([redelivered("1"), redelivered("2")]);
    await until("it to be dead", () => consumer.status().deadLettered === 1);
    expect(adapter.handed.at(-1)).toMatchObject({
      to: { kind: "dead-letters" },
      batch: [{ id: "1", headers: { [HEADER.deadReason]: "crashed", [HEADER.deadAttempts]: "3" } }],
    });
    await until("the other to start", () => started.includes("2"));
    expect(started).toEqual(["2"]);
  });

  it("is another one after a replay or a retry by a copy", async () => {
    const { opened, started, noted } = await world();
    noted("1", 1);
    const headers = Object.assign(Object.create(null), { [HEADER.replays]: "1" });
    opened.sink.deliver([incoming("1", { headers, redeliveries: 2 })]);
    await settled();
    expect(started).toEqual(["1"]);
  });

  it("keeps back its key in order, and no other", async () => {
    const { opened, started, noted, until } = await world({}, true);
    noted("a1", 1);
    opened.sink.deliver([redelivered("a1", "a"), redelivered("a2", "a"), incoming("b1", { key: "b" })]);
    await settled();
    expect(started).toEqual(["b1"]);
    noted("a1", 2, "over");
    await until("it to start", () => started.length === 2);
    expect(started).toEqual(["b1", "a1"]);
  });

  it("says at once that it is over where the delivery was lost, though its handler runs on", async () => {
    const { opened, own, adapter } = await world();
    opened.sink.deliver([redelivered("1")]);
    await settled();
    opened.sink.lost("all", new MessagingError("unreachable", "cut"));
    await settled();
    expect(own().map(({ state }) => state)).toEqual(["started", "over"]);
    expect(adapter.opened[0]?.settled).toEqual([]);
  });

  it("says it as soon as the connection is back, and after a stop at the next start", async () => {
    const { opened, own, adapter, broker, pass, finish } = await world();
    const refusal = new MessagingError("unreachable", "cut");
    opened.sink.deliver([redelivered("1"), redelivered("2")]);
    await settled();
    adapter.logRefusal = refusal;
    opened.sink.lost(["1"], refusal);
    await pass(120_000);
    adapter.logRefusal = undefined;
    adapter.signals?.up();
    await settled();
    expect(own().at(-1)).toMatchObject({ of: "1 0 0", state: "over" });
    adapter.logRefusal = refusal;
    await finish(broker.stop({ timeoutMs: 0 }));
    adapter.logRefusal = undefined;
    await finish(broker.start());
    expect(own().at(-1)).toMatchObject({ of: "2 0 0", state: "over" });
  });

  it("is not taken for crashed while nobody could write", async () => {
    const { opened, started, adapter, noted, pass, until, attempts } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1")]);
    await pass(SILENCE_MS * 0.75);
    adapter.logRefusal = new MessagingError("unreachable", "cut");
    await pass(12_000);
    adapter.logRefusal = undefined;
    await pass(SILENCE_MS * 0.75);
    expect(started).toEqual([]);
    noted("1", 2, "over");
    await until("it to start", () => started.length === 1);
    expect(attempts.get("1")).toBe(1);
  });

  it("is handled without a log that is out of order, which is said", async () => {
    const { opened, started, adapter, events, until } = await world();
    adapter.logRefusal = new MessagingError("unauthorized", "no right to it");
    opened.sink.deliver([redelivered("1")]);
    await until("it to start", () => started.length === 1);
    const notices = events.filter(({ type }) => type === "notice");
    expect(notices).toMatchObject([{ error: { code: "unauthorized" } }, { error: { code: "unauthorized" } }]);
  });

  it("takes no place from others while its note is not confirmed", async () => {
    const { opened, started, adapter, pass } = await world({ concurrency: 1 });
    const confirmed = Promise.withResolvers<void>();
    Object.assign(adapter.log, { append: () => confirmed.promise });
    opened.sink.deliver([redelivered("1")]);
    await settled();
    opened.sink.deliver([incoming("2")]);
    await settled();
    expect(started).toEqual([]);
    await pass(2_000);
    expect(started).toEqual(["2"]);
    confirmed.resolve();
    await settled();
    expect(started, "its place is taken by now").toEqual(["2"]);
  });

  it("is handled at once where the log takes nothing, as others of it have found out", async () => {
    const { opened, started, adapter, until, pass, end } = await world({ concurrency: 1 });
    adapter.logRefusal = new MessagingError("unreachable", "away");
    opened.sink.deliver([redelivered("1")]);
    await until("it to start", () => started.length === 1);
    await end("1");
    opened.sink.deliver([redelivered("2"), redelivered("3")]);
    await pass(1);
    expect(started).toEqual(["1", "2"]);
    await end("2");
    expect(started).toEqual(["1", "2", "3"]);
  });

  it("is not started by a consumer that was paused meanwhile, nor noted for as long", async () => {
    const { opened, started, own, consumer, pass } = await world();
    opened.sink.deliver([redelivered("1")]);
    consumer.pause();
    await pass(SILENCE_MS);
    expect(started).toEqual([]);
    expect(own().at(-1)?.state ?? "over").toBe("over");
    consumer.resume();
    await settled();
    expect(started).toEqual(["1"]);
  });

  it("is not over in the log because an earlier delivery of it was lost, whose end could not be said", async () => {
    const { opened, adapter, own, pass } = await world();
    opened.sink.deliver([redelivered("1")]);
    await settled();
    adapter.logRefusal = new MessagingError("unreachable", "cut");
    opened.sink.lost("all", adapter.logRefusal);
    await settled();
    adapter.logRefusal = undefined;
    opened.sink.deliver([redelivered("1")]);
    await settled();
    await pass(SILENCE_MS * 2);
    expect(own().filter(({ state }) => state === "over")).toEqual([]);
  });

  it("is given back where it is asked for, and by a pause that releases", async () => {
    const { opened, noted, consumer, own } = await world();
    noted("1", 1);
    noted("2", 1);
    opened.sink.deliver([redelivered("1"), redelivered("2")]);
    await settled();
    opened.sink.revoke(["1"]);
    consumer.pause({ requeue: true });
    await settled();
    expect(opened.settled).toEqual([
      { token: "1", action: "requeue" },
      { token: "2", action: "requeue" },
    ]);
    expect(own()).toEqual([]);
    expect(consumer.status().unsettled).toBe(0);
  });

  it("starts nothing that is being lost with it", async () => {
    const { opened, started, noted, until } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1")]);
    await until("it to run alone", () => started.length === 1);
    opened.sink.deliver([incoming("2"), incoming("3")]);
    opened.sink.lost("all", new MessagingError("unreachable", "cut"));
    await settled();
    expect(started).toEqual(["1"]);
  });

  it("is over in the log before anything else starts, if it ran alone", async () => {
    const { opened, started, noted, until, end, adapter, own } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1")]);
    await until("it to run alone", () => started.length === 1);
    opened.sink.deliver([incoming("2")]);
    const { promise, resolve } = Promise.withResolvers<void>();
    adapter.logWait = promise;
    await end("1");
    expect(own().at(-1)).toMatchObject({ state: "over" });
    expect(started, "it would be blamed for what the next one does").toEqual(["1"]);
    resolve();
    await settled();
    expect(started).toEqual(["1", "2"]);
  });

  it("takes turns with others where many have to run alone", async () => {
    const { opened, started, noted, until, end } = await world({ concurrency: 2 });
    const alone = ["1", "2", "3"];
    for (const id of alone) noted(id, 1);
    opened.sink.deliver(alone.map((id) => redelivered(id)));
    await until("the first to run alone", () => started.length === 1);
    opened.sink.deliver(["a", "b", "c", "d"].map((id) => incoming(id)));
    for (let count = 0; count < 7; count++) {
      expect(started.length).toBeGreaterThan(count);
      await end(started[count] ?? "");
      await settled();
    }
    expect(started).toEqual(["1", "a", "b", "2", "c", "d", "3"]);
  });

  it("runs beside none of another consumer that has to run alone, for processes die whole", async () => {
    const { broker, adapter, opened, started, noted, until, end, finish } = await world();
    const other = broker.consume(queue<unknown>("other"), (_, { id }) => void started.push(id));
    await finish(broker.start());
    const [, second] = adapter.opened;
    for (const id of ["1", "2"]) noted(id, 1);
    opened.sink.deliver([redelivered("1")]);
    await until("it to run alone", () => started.length === 1);
    second?.sink.deliver([redelivered("2")]);
    await until("it to wait for its turn", () => other.status().waiting === 1);
    await settled();
    expect(started).toEqual(["1"]);
    second?.sink.deliver([incoming("3")]);
    expect(started, "nothing else waits for it").toEqual(["1", "3"]);
    await end("1");
    await until("the other to start", () => started.includes("2"));
  });

  it("runs alone without a log that cannot be written any more", async () => {
    const { opened, started, noted, until, end, adapter } = await world();
    noted("1", 1);
    noted("2", 1);
    opened.sink.deliver([redelivered("1"), redelivered("2")]);
    await until("the first to run alone", () => started.length === 1);
    adapter.logRefusal = new MessagingError("unauthorized", "no right to it any more");
    opened.sink.deliver([incoming("3")]);
    await end("1");
    await until("the others to go on", () => started.includes("3"));
    await end("3");
    await until("the second to start", () => started.includes("2"));
  });

  it("lets the others go on while its own note is refused, though it is to run alone", async () => {
    const { opened, started, noted, until, adapter, end, consumer } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1"), incoming("2")]);
    await until("it to wait for the other", () => consumer.status().quarantined === 0);
    opened.sink.deliver([incoming("3")]);
    await settled();
    expect(started).toEqual(["2"]);
    adapter.logRefusal = new MessagingError("unreachable", "no answer");
    await end("2");
    await until("the others to go on", () => started.includes("3"));
    await end("3");
    adapter.logRefusal = undefined;
    await until("it to start", () => started.includes("1"));
  });

  it("does not start beside others where its note was confirmed late, though it is to run alone", async () => {
    const { opened, started, noted, until, adapter, end, consumer } = await world();
    noted("1", 1);
    opened.sink.deliver([redelivered("1"), incoming("2")]);
    await until("it to wait for the other", () => consumer.status().quarantined === 0);
    const { promise, resolve } = Promise.withResolvers<void>();
    adapter.logWait = promise;
    await end("2");
    opened.sink.deliver([incoming("3")]);
    await until("others to go on", () => started.includes("3"));
    adapter.logWait = undefined;
    resolve();
    await settled();
    expect(started).toEqual(["2", "3"]);
    await end("3");
    await until("it to start", () => started.includes("1"));
  });

  it("does not each try a log that is out of order, and tell of it", async () => {
    const { opened, started, adapter, events, until, end, pass, own } = await world({ concurrency: 1 });
    adapter.logRefusal = new MessagingError("unauthorized", "no right to it");
    const ids = Array.from({ length: 50 }, (_, number) => `${number}`);
    opened.sink.deliver(ids.map((id) => redelivered(id)));
    await until("the first to start", () => started.length === 1);
    opened.sink.deliver([incoming("other")]);
    const from = adapter.logWrites;
    for (let count = 0; count < 51; count++) {
      await until("one more to start", () => started.length > count);
      await end(started[count] ?? "");
    }
    expect(adapter.logWrites - from).toBeLessThan(10);
    expect(events.filter(({ type }) => type === "notice")).toHaveLength(2);
    const before = adapter.logWrites;
    await pass(60_000);
    expect(adapter.logWrites - before).toBeLessThan(10);
    adapter.logRefusal = undefined;
    await pass(60_000);
    opened.sink.deliver([redelivered("last")]);
    await until("it to start", () => started.includes("last"));
    expect(own().at(-1), "notes are written again").toMatchObject({ of: "last 0 0", state: "started" });
  });
});

it("makes nothing of records that others put there", async () => {
  const { opened, started, adapter } = await world();
  adapter.records.push(
    "",
    "null",
    "[]",
    "{}",
    '{"by":1,"of":"1 0 0"}',
    `{"by":"x","of":"1 0 0","sequence":1,"state":"?"}`,
  );
  opened.sink.deliver([redelivered("1")]);
  await settled();
  expect(started).toEqual(["1"]);
});

import type { StandardSchemaV1 } from "@standard-schema/spec";
import { describe, expect, it } from "vitest";
import type { Broker, Consumer } from "../../core/broker.ts";
import { internalsOf } from "../../core/broker-internals.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue, topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerOptions } from "../../core/options.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { incoming, outgoingMessage, RecordingAdapter, settled } from "./recording-adapter.ts";

const work = queue<unknown>("work");
const inOrder = queue<unknown>("in-order", { ordered: true });
/** A signal, and what aborts it. */
const aborting = () => {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
};
const never = (): Promise<void> => new Promise(() => {});

function world(options: BrokerOptions = {}) {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter, { clock, random: new Prng("lifecycle"), ...options });
  const main = () => {
    const opened = adapter.opened.findLast(({ from }) => from.kind === "queue");
    if (opened === undefined) throw new Error("nothing was opened");
    return opened;
  };
  const finish = async (promise: Promise<unknown>): Promise<void> => {
    let done = false;
    promise.finally(() => {
      done = true;
    });
    expect(await time.until(() => done, time.now + 60_000)).toBe(true);
    await promise;
  };
  return { time, clock, adapter, broker, main, finish };
}

describe("starting and stopping", () => {
  it("ends stopped when stop was called last, and started when start was", async () => {
    const { broker, finish } = world();
    await finish(Promise.all([broker.start(), broker.stop()]));
    expect(broker.status().state).toBe("stopped");
    await finish(Promise.all([broker.start(), broker.stop(), broker.start()]));
    expect(broker.status().state).toBe("started");
    await finish(Promise.all([broker.stop(), broker.start(), broker.stop()]));
    expect(broker.status()).toMatchObject({ state: "stopped", connected: false });
  });

  it("begins a consumer that was made while it started", async () => {
    const { broker, adapter, finish, time } = world();
    const { open } = adapter;
    adapter.open = async (signals) => {
      await open.call(adapter, signals);
      time.schedule(() => {}, 0);
    };
    const { receive } = adapter;
    broker.consume(queue("early"), never);
    adapter.receive = (from, options, sink) => {
      adapter.receive = receive;
      broker.consume(work, never);
      return receive.call(adapter, from, options, sink);
    };
    await finish(broker.start());
    expect(
      await time.until(() => adapter.opened.some(({ from }) => "name" in from && from.name === "work"), 60_000),
    ).toBe(true);
    await finish(broker.stop());
  });

  it("knows of a connection that was lost while it started", async () => {
    const { broker, adapter, finish } = world();
    adapter.declare = async () => {
      adapter.signals?.down({ code: "unreachable" } as never);
      return [];
    };
    await finish(broker.start());
    expect(broker.status().connected).toBe(false);
    adapter.signals?.up();
    expect(broker.status().connected).toBe(true);
    await finish(broker.send(work, {}));
    await finish(broker.stop());
  });

  it("refuses what a slow schema lets through after the stop, and keeps no timer for it", async () => {
    let answer = (): void => {};
    const slow = queue("slow", {
      schema: {
        "~standard": {
          version: 1,
          vendor: "test",
          validate: (value) => new Promise((resolve) => (answer = () => resolve({ value }))),
        },
      },
    });
    const { broker, adapter, clock, finish } = world();
    await finish(broker.start());
    const sending = broker.send(slow, {});
    const refused = expect(sending).rejects.toMatchObject({ code: "closed" });
    await finish(broker.stop());
    answer();
    await refused;
    expect(adapter.handed).toEqual([]);
    expect(clock.pending).toBe(0);
  });
});

describe("an adapter", () => {
  it("is closed by the broker object that opened it alone", async () => {
    const { broker, adapter, finish } = world();
    let opened = 0;
    let closed = 0;
    adapter.open = async (signals) => {
      if (opened > closed) throw new MessagingError("invalid", "it is open already");
      opened++;
      adapter.signals = signals;
    };
    adapter.close = async () => void closed++;
    await finish(broker.start());
    const second = createBroker(adapter);
    await expect(second.start()).rejects.toMatchObject({ code: "start-failed", problems: [{ code: "invalid" }] });
    // It finds its problem before it opens anything.
    adapter.physical = () => "the same";
    const third = createBroker(adapter, { destinations: [queue("one"), queue("other")] });
    await expect(third.start()).rejects.toMatchObject({ code: "start-failed" });
    await Promise.all([second.stop(), third.stop()]);
    expect(closed).toBe(0);
    await finish(broker.send(work, 1));
    await finish(broker.stop());
    expect(closed).toBe(1);
  });

  it("is closed after a start that failed once it was open", async () => {
    const { broker, adapter, finish } = world();
    let closed = 0;
    adapter.close = async () => void closed++;
    adapter.declare = async () => {
      throw new MessagingError("unauthorized", "not allowed");
    };
    const failed = expect(broker.start()).rejects.toMatchObject({ code: "start-failed" });
    await finish(failed);
    expect(closed).toBe(1);
  });
});

describe("the engine's own copies", () => {
  it("are refused at once while the broker object is not started", async () => {
    const { broker, finish, clock } = world();
    const copy = () =>
      internalsOf(broker, "test").sendCopy({ kind: "queue", name: "work" }, false, outgoingMessage("copy"));
    await expect(copy()).rejects.toMatchObject({ code: "closed" });
    await finish(broker.start());
    await finish(copy());
    await finish(broker.stop());
    await expect(copy()).rejects.toMatchObject({ code: "closed" });
    expect(clock.pending).toBe(0);
  });
});

describe("a consumer that stops", () => {
  it("gives back at once what begins to wait for its next attempt in place", async () => {
    const { broker, main, time, clock, finish } = world();
    let fail = (): void => {};
    let starts = 0;
    broker.consume(inOrder, () => {
      starts++;
      return new Promise((_, reject) => (fail = () => reject(new Error("no"))));
    });
    await finish(broker.start());
    const before = main();
    before.sink.deliver([incoming("1", { key: "a" })]);
    const stopping = broker.stop({ timeoutMs: 10_000 });
    await settled();
    fail();
    await finish(stopping);
    expect(before.settled).toEqual([{ token: "1", action: "requeue" }]);
    expect(time.now).toBe(0);
    expect(clock.pending).toBe(0);
    await finish(broker.start());
    await time.until(() => false, 100_000);
    expect(starts).toBe(1);
    await finish(broker.stop());
  });

  it("does not start later what came while it could not be opened", async () => {
    const { broker, adapter, main, time, finish } = world();
    const started: string[] = [];
    await finish(broker.start());
    const { receive } = adapter;
    adapter.receive = async (_from, _options, sink) => {
      adapter.receive = receive;
      sink.deliver([incoming("stale")]);
      throw new MessagingError("unreachable", "not yet");
    };
    broker.consume(work, (_, { id }) => void started.push(id));
    expect(await time.until(() => adapter.opened.length > 0, 60_000)).toBe(true);
    main().sink.deliver([incoming("fresh")]);
    await settled();
    expect(started).toEqual(["fresh"]);
    await finish(broker.stop());
  });
});

describe("a stop with a shorter timeout", () => {
  const hour = { timeoutMs: 3_600_000 };
  it("of a consumer or its broker object shortens one of the consumer", async () => {
    for (const again of ["consumer", "broker"] as const) {
      const { broker, main, time, finish, clock } = world();
      const consumer = broker.consume(work, never);
      await finish(broker.start());
      main().sink.deliver([incoming("1")]);
      const stopping = consumer.stop(hour);
      const shorter = again === "consumer" ? consumer.stop({ timeoutMs: 100 }) : broker.stop({ timeoutMs: 100 });
      // A longer one prolongs nothing.
      const longer = consumer.stop(hour);
      await finish(Promise.all([stopping, shorter, longer]));
      expect(time.now).toBeLessThan(10_000);
      expect(main().settled).toEqual([{ token: "1", action: "requeue" }]);
      await finish(broker.stop());
      expect(clock.pending).toBe(0);
    }
  });

  it("shortens one of the broker object, also while that waits for confirms", async () => {
    const { broker, adapter, main, time, finish, clock } = world({ publish: { timeoutMs: 3_600_000 } });
    const consumer = broker.consume(work, never);
    await finish(broker.start());
    main().sink.deliver([incoming("1")]);
    adapter.holds = true;
    const sent = expect(broker.send(work, {})).rejects.toMatchObject({ code: "unconfirmed" });
    const stopping = broker.stop(hour);
    await settled();
    await finish(Promise.all([consumer.stop({ timeoutMs: 0 })]));
    expect(broker.status().state).toBe("stopping");
    await finish(Promise.all([broker.stop({ timeoutMs: 100 }), stopping, sent]));
    expect(time.now).toBeLessThan(10_000);
    expect(clock.pending).toBe(0);
  });
});

describe("a handler's result", () => {
  it("is heard once, whatever a thenable does", async () => {
    const { broker, main, finish } = world();
    const answersTwice = (done: () => void, failed: (error: Error) => void): void => {
      done();
      failed(new Error("no"));
    };
    const throws = (): void => {
      throw new Error("no");
    };
    // biome-ignore lint/suspicious/noThenProperty: the point of it
    const consumer = broker.consume(work, (_, { id }) => ({ then: id === "twice" ? answersTwice : throws }) as never);
    await finish(broker.start());
    main().sink.deliver([incoming("twice"), incoming("throws")]);
    await settled();
    expect(consumer.status()).toMatchObject({ running: 0, started: 2, succeeded: 1, failed: 1 });
    await finish(broker.stop());
  });
});

describe("order", () => {
  it("goes on in a key when the copy of one that was lost cannot be made", async () => {
    const { broker, adapter, main, time, finish } = world({ publish: { timeoutMs: 100 } });
    const started: string[] = [];
    broker.consume(
      inOrder,
      (_, { id }) => {
        started.push(id);
        if (id === "1" && started.length === 1) throw new Error("no");
      },
      { retry: { attempts: 1 } },
    );
    await finish(broker.start());
    adapter.holds = true;
    main().sink.deliver([incoming("1", { key: "a" })]);
    await settled();
    main().sink.lost("all", { code: "unreachable" } as never);
    main().sink.deliver([incoming("1", { key: "a", token: "again" })]);
    expect(await time.until(() => started.length === 2, 10_000)).toBe(true);
    await finish(broker.stop());
  });

  it("is that of the calls, whatever an asynchronous schema takes", async () => {
    const { broker, adapter, finish, time } = world();
    const answers = new Map<number, () => void>();
    const schema: StandardSchemaV1<{ n: number; key: string }> = {
      "~standard": {
        version: 1,
        vendor: "test",
        validate: (body) => {
          const value = body as { n: number; key: string };
          if (value.n === 0) return { value };
          return new Promise((resolve) => answers.set(value.n, () => resolve({ value })));
        },
      },
    };
    const slow = queue("slow", { ordered: true, key: ({ key }) => key, schema });
    const sent = (): unknown[] =>
      adapter.handed.flatMap(({ batch }) => batch.map(({ body }) => JSON.parse(Buffer.from(body).toString()).n));
    await finish(broker.start());
    const [a, b] = ["a", "b"];
    const first = broker.sendMany(
      slow,
      [1, 2, 3].map((n) => ({ body: { n, key: a } })),
    );
    const last = broker.send(slow, { n: 0, key: a });
    const other = broker.send(slow, { n: 4, key: b });
    for (const n of [3, 2, 4]) answers.get(n)?.();
    // Another key does not wait.
    await finish(other);
    expect(sent()).toEqual([4]);
    answers.get(1)?.();
    await finish(Promise.all([first, last]));
    expect(sent()).toEqual([4, 1, 2, 3, 0]);
    // One that is given up keeps the place of those before it, and its own time ends its own wait.
    const hanging = broker.send(slow, { n: 5, key: a }, { timeoutMs: 1_000 });
    const refused = [expect(hanging).rejects.toMatchObject({ code: "timeout" })];
    const { signal, abort } = aborting();
    refused.push(expect(broker.send(slow, { n: 6, key: a }, { signal })).rejects.toMatchObject({ code: "aborted" }));
    const behind = broker.send(slow, { n: 0, key: a });
    abort();
    await settled();
    expect(sent()).toHaveLength(5);
    expect(await time.until(() => sent().length === 6, time.now + 2_000)).toBe(true);
    await finish(Promise.all([behind, ...refused]));
    await finish(broker.stop());
  });

  it("gives back what waits behind a delivery that was lost alone", async () => {
    const { broker, main, finish } = world();
    broker.consume(inOrder, never);
    await finish(broker.start());
    main().sink.deliver([incoming("1", { key: "a" }), incoming("2", { key: "a" }), incoming("3", { key: "b" })]);
    main().sink.lost(["1"], { code: "unreachable" } as never);
    await settled();
    expect(main().settled).toEqual([{ token: "2", action: "requeue" }]);
    await finish(broker.stop());
  });
});

describe("a publisher's verbs", () => {
  it("are each for their own kind, also when the destination is known", async () => {
    const { broker, adapter, finish } = world();
    const events = topic<unknown>("events");
    await finish(broker.start());
    await finish(broker.publish(events, {}));
    await expect(broker.send(events as never, {} as never)).rejects.toMatchObject({ code: "invalid" });
    expect(adapter.handed).toHaveLength(1);
    await finish(broker.stop());
  });
});

describe("await using", () => {
  it("stops a consumer, and then the broker, at the end of its block", async () => {
    const adapter = new RecordingAdapter();
    let ended: { readonly broker: Broker; readonly consumer: Consumer } | undefined;
    {
      await using broker = createBroker(adapter);
      {
        await using consumer = broker.consume(queue("work"), () => {});
        await broker.start();
        ended = { broker, consumer };
      }
      expect(ended.consumer.status().state).toBe("stopped");
      expect(broker.status().state).toBe("started");
    }
    expect(ended.broker.status()).toMatchObject({ state: "stopped", connected: false });
    await expect(ended.broker.send(queue("work"), 1)).rejects.toMatchObject({ code: "closed" });
  });
});

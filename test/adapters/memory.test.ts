import { type Broker, createBroker, postpone, queue } from "anybroker";
import type { Address, DeliverySink, OutgoingMessage, Source } from "anybroker/adapter";
import { memory } from "anybroker/memory";
import { testBroker } from "anybroker/testing";
import { describe, expect, it } from "vitest";
import { HEADER } from "../../core/system-headers.ts";
import { eventually } from "../eventually.ts";
import { message } from "./seam-values.ts";

const work = queue<number>("work");
const WORKS_FOR_MS = 2_000;

/** Timers of the machine that fired while a broker worked; without turns of the event loop it is none. */
async function firedMeanwhile(worked: Promise<void>): Promise<number> {
  let fired = 0;
  const timer = setInterval(() => fired++, 10);
  await worked;
  clearInterval(timer);
  return fired;
}

/** The time that this process has computed, in milliseconds: on a busy machine much less than has passed. */
function computedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/**
 * Hands out `true` until enough was computed or a timer has fired often enough, so that a test ends without turns too.
 */
function untilOver(): { readonly goesOn: () => boolean; readonly over: Promise<void> } {
  const end = computedMs() + WORKS_FOR_MS;
  const { promise: over, resolve } = Promise.withResolvers<void>();
  let fired = 0;
  const timer = setInterval(() => fired++, 10);
  const goesOn = (): boolean => {
    if (computedMs() < end && fired < 10) return true;
    clearInterval(timer);
    resolve();
    return false;
  };
  return { goesOn, over };
}

describe("a broker in process lets timers, I/O and signals have their turn", () => {
  it("while a handler always gives its message back at once", async () => {
    const { goesOn, over } = untilOver();
    const broker = createBroker(memory());
    broker.consume(work, () => (goesOn() ? postpone({ afterMs: 0 }) : undefined));
    await broker.start();
    await broker.send(work, 1);
    expect(await firedMeanwhile(over)).toBeGreaterThan(4);
    await broker.stop();
  });

  it("while a handler sends to its own queue", async () => {
    const { goesOn, over } = untilOver();
    const broker = createBroker(memory());
    broker.consume(work, async (body) => {
      if (goesOn()) await broker.send(work, body);
    });
    await broker.start();
    await broker.send(work, 1);
    expect(await firedMeanwhile(over)).toBeGreaterThan(4);
    await broker.stop();
  });

  it("while handlers that return at once work off what is there", async () => {
    const { broker, handled } = await withBacklog(300, () => {
      const end = performance.now() + 1;
      while (performance.now() < end);
    });
    expect(await firedMeanwhile(handled)).toBeGreaterThan(4);
    await broker.stop();
  });

  it("while a caller sends one after the other", async () => {
    const { goesOn, over } = untilOver();
    const broker = createBroker(memory(), { destinations: [work] });
    await broker.start();
    const sending = (async () => {
      while (goesOn()) await broker.send(work, 1);
    })();
    expect(await firedMeanwhile(over)).toBeGreaterThan(4);
    await sending;
    await broker.stop();
  });

  it("on a virtual clock, where time stands still meanwhile", async () => {
    await using kit = testBroker();
    const { goesOn, over } = untilOver();
    kit.broker.consume(work, async (body) => {
      if (goesOn()) await kit.broker.send(work, body);
    });
    await kit.broker.start();
    await kit.broker.send(work, 1);
    expect(await firedMeanwhile(over)).toBeGreaterThan(0);
  });
});

async function withBacklog(
  count: number,
  handle: () => void,
): Promise<{ readonly broker: Broker; readonly handled: Promise<void> }> {
  const broker = createBroker(memory());
  const { promise: handled, resolve } = Promise.withResolvers<void>();
  let left = count;
  const consumer = broker.consume(work, () => {
    handle();
    if (--left === 0) resolve();
  });
  consumer.pause();
  await broker.start();
  await broker.sendMany(
    work,
    Array.from({ length: count }, (_, body) => ({ body })),
  );
  consumer.resume();
  return { broker, handled };
}

it("a virtual clock goes on only when long turns have come to their end", async () => {
  await using kit = testBroker();
  const messages = 20_000;
  let left = messages;
  const times = new Set<number>();
  kit.broker.consume(work, async (body) => {
    times.add(kit.clock.monotonic());
    if (--left > 0) await kit.broker.send(work, body);
  });
  await kit.broker.start();
  kit.clock.schedule(() => {}, 1);
  await kit.broker.send(work, 1);
  await kit.clock.advance(1);
  expect([left, ...times]).toEqual([0, 0]);
});

it("delayed messages come in the order of their times, those of one time as they were sent", async () => {
  await using kit = testBroker();
  const delays = Array.from({ length: 500 }, (_, index) => 1 + ((index * 7_919) % 97));
  kit.broker.consume(work, () => {}, { concurrency: 1 });
  await kit.broker.start();
  for (const [body, delayMs] of delays.entries()) await kit.broker.send(work, body, { delayMs });
  await kit.idle();
  const expected = [...delays.keys()].sort((one, other) => (delays[one] ?? 0) - (delays[other] ?? 0) || one - other);
  expect(kit.consumed(work).map(({ body }) => body)).toEqual(expected);
});

describe("maxMessages", () => {
  const limited = async () => {
    const adapter = memory({ maxMessages: 3 });
    await adapter.open();
    const reported: string[] = [];
    const send = (to: Address, id: string, more: Partial<OutgoingMessage> = {}): void =>
      adapter.send(to, [message(id, more)], (_, { status }) => void reported.push(`${id} ${status}`));
    const take = async (from: Source) => {
      const ids: string[] = [];
      const tokens: unknown[] = [];
      const sink: DeliverySink<undefined> = {
        deliver: (batch) => {
          for (const { id, token } of batch) {
            ids.push(id);
            tokens.push(token);
          }
        },
        lost: () => {},
        revoke: () => {},
        stalled: () => {},
        flowing: () => {},
        filtered: () => {},
      };
      const receiver = await adapter.receive(from, { prefetch: 100, ordered: false }, sink);
      const ack = () => receiver.settle(tokens.splice(0).map((token) => ({ token, action: "ack" })));
      return { ids, ack };
    };
    return { adapter, reported, send, take };
  };

  it("bounds subscriptions: a publish waits until each of them has room, and keeps its place", async () => {
    const { adapter, reported, send, take } = await limited();
    const of = (name: string) => ({ kind: "subscription", topic: "placed", name }) as const;
    const topic = { kind: "topic", name: "placed" } as const;
    for (const name of ["quick", "slow"]) {
      adapter.space.declareSubscription({ address: of(name), ordered: false, from: "now" });
    }
    const quick = await take(of("quick"));
    for (const id of ["1", "2", "3", "4", "5"]) send(topic, id);
    await eventually(() => expect(quick.ids).toEqual(["1", "2", "3"]));
    await quick.ack();
    expect(reported).toEqual(["1 confirmed", "2 confirmed", "3 confirmed"]);
    expect(await adapter.depth(of("quick"))).toMatchObject({ ready: 0, unsettled: 0 });
    expect(await adapter.depth(of("slow"))).toMatchObject({ ready: 3 });
    const slow = await take(of("slow"));
    await eventually(() => expect(slow.ids).toHaveLength(3));
    await slow.ack();
    await eventually(() => expect(quick.ids).toEqual(["1", "2", "3", "4", "5"]));
    expect(reported).toHaveLength(5);
    await adapter.close();
  });

  it("bounds delayed messages too, and lets copies of a consumer pass", async () => {
    const { adapter, reported, send } = await limited();
    const queue = { kind: "queue", name: "work" } as const;
    adapter.space.declareQueue(queue);
    for (const id of ["1", "2", "3", "4"]) send(queue, id, { delayMs: 3_600_000 });
    send(queue, "copy", { headers: { [HEADER.attempts]: "1" }, delayMs: 3_600_000 });
    expect(reported).toEqual(["1 confirmed", "2 confirmed", "3 confirmed", "copy confirmed"]);
    await adapter.close();
  });
});

it("a priority that no send has does not decide how much memory a queue takes", async () => {
  const adapter = memory();
  await adapter.open();
  const address = { kind: "queue", name: "work" } as const;
  adapter.space.declareQueue(address);
  const priorities = [8.64e15, Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 31, 1];
  const batch = priorities.map((priority, index) => message(`m-${index}`, { priority }));
  adapter.send(address, batch, () => {});
  const delivered: string[] = [];
  const sink: DeliverySink<undefined> = {
    deliver: (messages) => void delivered.push(...messages.map(({ id }) => id)),
    lost: () => {},
    revoke: () => {},
    stalled: () => {},
    flowing: () => {},
    filtered: () => {},
  };
  await adapter.receive(address, { prefetch: 10, ordered: false, handlerTimeoutMs: 1_000 }, sink);
  await expect.poll(() => delivered).toEqual(["m-0", "m-4", "m-5", "m-6", "m-1", "m-2", "m-3"]);
  await adapter.close();
});

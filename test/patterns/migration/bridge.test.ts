import {
  type Adapter,
  bytesCodec,
  createBroker,
  type Delivery,
  MessagingError,
  queue,
  subscription,
  topic,
} from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { bridge } from "anybroker/migration";
import { expect, onTestFinished, test, vi } from "vitest";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import { internalsOf } from "../../../core/broker-internals.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { eventually } from "../../eventually.ts";
import { refusesAcks } from "../refuses-acks.ts";
import { started, twoBrokers } from "./brokers.ts";

const orders = queue<{ n: number }>("orders", { key: ({ n }) => `k${n % 10}` });
const inOrder = queue<{ n: number }>("in-order", { key: ({ n }) => `k${n % 10}`, ordered: true });

test("moves everything, with id, key, headers and content type, and drains the source", async () => {
  const { from, to } = await twoBrokers([orders]);
  for (let n = 0; n < 2_500; n++) await from.send(orders, { n }, { id: `id-${n}`, headers: { color: "red" } });
  const result = await bridge(from, to, { source: orders }).run();
  expect(result).toMatchObject({ end: "drained", moved: 2_500, repeated: 0, left: 0, error: undefined });
  expect(await from.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
  const seen = new Map<string, Delivery>();
  to.consume(orders, (_, delivery) => void seen.set(delivery.id, delivery));
  await eventually(() => expect(seen.size).toBe(2_500));
  expect(seen.get("id-17")).toMatchObject({ key: "k7", headers: { color: "red" }, attempt: 1 });
});

test("is refused from a destination to itself, by one broker object or by two", async () => {
  const space = memorySpace();
  const placed = topic<{ n: number }>("placed");
  const billing = subscription(placed, "billing");
  const all = [orders, inOrder, placed, billing];
  const one = await started(memory({ space }), all);
  const other = await started(delegate(memory({ space })), all);
  await one.send(orders, { n: 1 });
  for (const to of [one, other]) {
    for (const options of [
      { source: orders },
      { source: orders, content: "dead-letters" },
      { source: billing },
      { source: billing, target: placed },
    ] as const) {
      const refused = bridge(one, to, options);
      await expect(refused.check()).rejects.toMatchObject({ code: "invalid" });
      await expect(refused.run()).rejects.toMatchObject({
        code: "invalid",
        message: expect.stringContaining("to itself for ever"),
      });
      expect(refused.status()).toMatchObject({ state: "new", moved: 0 });
    }
    // To another destination of the same broker it may go.
    await expect(bridge(one, to, { source: orders, target: inOrder }).check()).resolves.toBeUndefined();
  }
  expect(await one.depth(orders)).toMatchObject({ ready: 1, unsettled: 0 });
  const elsewhere = await started(memory(), all);
  await expect(bridge(one, elsewhere, { source: orders }).check()).resolves.toBeUndefined();
});

test("stops though its source takes no acknowledgement, and says why meanwhile", async () => {
  const space = memorySpace();
  const from = await started(refusesAcks(memory({ space })), [orders]);
  const to = await started(memory(), [orders]);
  for (let n = 0; n < 3; n++) await from.send(orders, { n });
  const moving = bridge(from, to, { source: orders });
  const run = moving.run();
  await eventually(() => expect(moving.status()).toMatchObject({ stalled: { code: "unauthorized" }, inHand: 3 }));
  await moving.stop();
  expect(await run).toMatchObject({ end: "stopped", moved: 0, repeated: 3 });
  expect(await from.depth(orders)).toMatchObject({ ready: 3 });
  expect(await to.depth(orders)).toMatchObject({ ready: 3 });
});

test("says how many the filter of its source kept from being moved", async () => {
  const placed = topic<object>("placed");
  const billing = subscription(placed, "billing", { filter: "order.*" });
  const inner = memory();
  // As an adapter does that applies filters while reading.
  const reading = delegate(inner, {
    receive(source, options, sink) {
      sink.filtered(2);
      return inner.receive(source, options, sink);
    },
  });
  const from = await started(reading, [placed, billing]);
  const to = await started(memory(), [placed, billing]);
  await from.publish(placed, {}, { routingKey: "order.paid" });
  const moving = bridge(from, to, { source: billing });
  expect(await moving.run()).toMatchObject({ end: "drained", moved: 1, left: 0, filtered: 2 });
  expect(moving.status()).toMatchObject({ filtered: 2 });
});

test("moves a body that nobody can decode, and keeps when it was published and how often it was tried", async () => {
  const { from, to } = await twoBrokers([orders]);
  const { sendCopy } = internalsOf(from, "test");
  const body = new Uint8Array([0xff, 0x00, 0x7b]);
  const headers = Object.assign(Object.create(null), {
    [HEADER.publishedAt]: "1700000000000",
    [HEADER.attempts]: "2",
    mine: "1",
  });
  const address = { kind: "queue", name: "orders" } as const;
  await sendCopy(address, false, {
    id: "raw",
    key: "k",
    routingKey: undefined,
    headers,
    body,
    contentType: "application/x-odd",
    size: 3,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
  });
  await bridge(from, to, { source: orders }).run();
  const raw = queue<Uint8Array>("orders", { codec: bytesCodec });
  const seen: [Uint8Array, Delivery][] = [];
  to.consume(raw, (bytes, delivery) => void seen.push([bytes, delivery]));
  await eventually(() => expect(seen).toHaveLength(1));
  expect([...(seen[0]?.[0] ?? [])]).toEqual([...body]);
  expect(seen[0]?.[1]).toMatchObject({ id: "raw", attempt: 3, headers: { mine: "1" } });
  expect(seen[0]?.[1].firstPublishedAt.getTime()).toBe(1_700_000_000_000);
});

test("keeps priorities, and what is left of a time to live", async () => {
  const urgent = queue<{ n: number }>("urgent", { priorities: 4, ttlMs: 60_000 });
  const { from, to } = await twoBrokers([urgent]);
  for (let n = 0; n < 4; n++) await from.send(urgent, { n }, { priority: n });
  const copies = vi.spyOn(internalsOf(to, "test"), "sendCopy");
  await bridge(from, to, { source: urgent }).run();
  const sent = copies.mock.calls.map(([, , message]) => message);
  expect(sent.map(({ priority }) => priority).sort()).toEqual([0, 1, 2, 3]);
  for (const { ttlMs } of sent) expect(ttlMs).toBeGreaterThan(0);
  for (const { ttlMs } of sent) expect(ttlMs).toBeLessThanOrEqual(60_000);
});

test("moves a subscription to itself, to a topic and to a queue", async () => {
  const placed = topic<{ n: number }>("placed");
  const billing = subscription(placed, "billing");
  const mail = subscription(placed, "mail");
  const { from, to } = await twoBrokers([placed, billing, mail, orders]);
  const fill = async (): Promise<void> => {
    for (let n = 0; n < 5; n++) await from.publish(placed, { n }, { routingKey: "eu.de" });
  };
  await fill();
  expect(await bridge(from, to, { source: billing }).run()).toMatchObject({ moved: 5 });
  expect(await to.depth(placed, "billing")).toMatchObject({ ready: 5 });
  expect(await to.depth(placed, "mail")).toMatchObject({ ready: 0 });
  await fill();
  expect(await bridge(from, to, { source: billing, target: placed }).run()).toMatchObject({ moved: 5 });
  expect(await to.depth(placed, "mail")).toMatchObject({ ready: 5 });
  expect(await bridge(from, to, { source: mail, target: orders }).run()).toMatchObject({ moved: 10 });
  expect(await to.depth(orders)).toMatchObject({ ready: 10 });
});

test("moves dead letters to the dead letters, with what killed them", async () => {
  const { from, to } = await twoBrokers([orders]);
  from.consume(orders, () => Promise.reject(new Error("no stock")), { retry: { attempts: 1 } });
  for (let n = 0; n < 3; n++) await from.send(orders, { n });
  const dead = { kind: "dead-letters", of: { kind: "queue", name: "orders" } } as const;
  const depth = async (): Promise<number> => (await internalsOf(from, "test").adapter.depth(dead)).ready;
  await eventually(async () => expect(await depth()).toBe(3));
  const moving = bridge(from, to, { source: orders, content: "dead-letters" });
  expect(await moving.run()).toMatchObject({ moved: 3 });
  expect(moving.status()).toMatchObject({ source: "orders.dlq", target: "orders.dlq" });
  const batches = internalsOf(to, "test").adapter.browse?.(dead) ?? [];
  const letters = [];
  for await (const batch of batches) letters.push(...batch);
  expect(letters.map(({ headers }) => headers[HEADER.deadError])).toEqual(Array(3).fill("no stock"));
});

/** An adapter whose sends fail as told. */
function faulty(adapter: Adapter, fault: (id: string) => "unknown" | MessagingError | undefined): Adapter {
  return {
    ...Object.fromEntries(
      ["physicalName", "open", "declare", "receive", "quarantine", "browse", "depth", "close"].map((name) => [
        name,
        (...parameters: unknown[]) =>
          (adapter[name as keyof Adapter] as (...all: unknown[]) => unknown).apply(adapter, parameters),
      ]),
    ),
    name: adapter.name,
    capabilities: adapter.capabilities,
    sendLimits: adapter.sendLimits,
    send(to, batch, report) {
      batch.forEach((message, index) => {
        const end = fault(message.id);
        if (end === undefined) adapter.send(to, [message], (_, result) => report(index, result));
        else if (end === "unknown") report(index, { status: "unknown", cause: new Error("silence") });
        else report(index, { status: "rejected", error: end });
      });
    },
  } as Adapter;
}

test("keeps each key in order, whatever the new broker does", async () => {
  const spaces = [memorySpace(), memorySpace()] as const;
  const from = await started(memory({ space: spaces[0] }), [inOrder]);
  const fault = (): "unknown" | undefined => (Math.random() < 0.2 ? "unknown" : undefined);
  const to = await started(faulty(memory({ space: spaces[1] }), fault), [inOrder]);
  for (let n = 0; n < 500; n++) await from.send(inOrder, { n });
  expect(await bridge(from, to, { source: inOrder, maxMessages: 100 }).run()).toMatchObject({ moved: 500 });
  const seen: number[] = [];
  to.consume(inOrder, ({ n }) => void seen.push(n));
  await eventually(() => expect(new Set(seen).size).toBe(500));
  for (let key = 0; key < 10; key++) {
    const ofKey = [...new Set(seen.filter((n) => n % 10 === key))];
    expect(ofKey).toEqual([...ofKey].sort((one, other) => one - other));
  }
});

test("leaves what the new broker refuses, with its key behind it, and tells", async () => {
  const spaces = [memorySpace(), memorySpace()] as const;
  const from = await started(memory({ space: spaces[0] }), [inOrder, orders]);
  const refusal = new MessagingError("refused", "no");
  const to = await started(
    faulty(memory({ space: spaces[1] }), (id) => (id === "id-3" ? refusal : undefined)),
    [inOrder, orders],
  );
  for (let n = 0; n < 40; n++) await from.send(inOrder, { n }, { id: `id-${n}` });
  const result = await bridge(from, to, { source: inOrder }).run();
  expect(result).toMatchObject({ end: "drained", moved: 36, left: 4 });
  expect(result.leftMessages.map(({ id }) => id)).toEqual(["id-3", "id-13", "id-23", "id-33"]);
  expect(await from.depth(inOrder)).toMatchObject({ ready: 4, unsettled: 0 });
  for (let n = 0; n < 40; n++) await from.send(orders, { n }, { id: `id-${n}` });
  expect(await bridge(from, to, { source: orders }).run()).toMatchObject({ moved: 39, left: 1 });
});

test("goes on after a crash; what was on its way comes twice, under its id", async () => {
  const space = memorySpace();
  const filling = await started(memory({ space }), [orders]);
  for (let n = 0; n < 1_000; n++) await filling.send(orders, { n }, { id: `id-${n}` });
  const target = memorySpace();
  const crashing = memory({ space });
  const from = createBroker(crashing, { destinations: [orders] });
  await from.start();
  let sends = 0;
  const counted = faulty(memory({ space: target }), () => {
    // In the middle of a batch: confirmed there, and never acknowledged here.
    if (++sends === 300) void crashing.close();
    return undefined;
  });
  const to = await started(counted, [orders]);
  const first = bridge(from, to, { source: orders, maxMessages: 100 });
  const running = first.run();
  await eventually(() => expect(sends).toBeGreaterThanOrEqual(300));
  await first.stop();
  await running;
  const second = await bridge(filling, to, { source: orders }).run();
  expect(second.end).toBe("drained");
  const seen: string[] = [];
  to.consume(orders, (_, { id }) => void seen.push(id));
  await eventually(() => expect(new Set(seen).size).toBe(1_000));
  expect(seen.length).toBeGreaterThan(1_000);
  expect(await filling.depth(orders)).toMatchObject({ ready: 0, unsettled: 0 });
});

test("pauses without holding anything, goes on, and keeps to its rate", async () => {
  const { from, to } = await twoBrokers([orders]);
  for (let n = 0; n < 200; n++) await from.send(orders, { n });
  const moving = bridge(from, to, { source: orders, rate: 100 });
  const running = moving.run();
  await eventually(() => expect(moving.status().moved).toBeGreaterThan(5));
  moving.pause();
  await eventually(async () => expect(await from.depth(orders)).toMatchObject({ unsettled: 0 }));
  const { moved } = moving.status();
  expect(moving.status().state).toBe("paused");
  // Far from all: the rate held them.
  expect(moved).toBeLessThan(150);
  moving.setRate(undefined);
  moving.resume();
  expect(await running).toMatchObject({ end: "drained", moved: 200 });
});

test("runs on until it is stopped, also by a signal", async () => {
  const { from, to } = await twoBrokers([orders]);
  const abort = new AbortController();
  const moving = bridge(from, to, { source: orders, until: "stopped" });
  const running = moving.run({ signal: abort.signal });
  for (let n = 0; n < 20; n++) await from.send(orders, { n });
  await eventually(() => expect(moving.status().moved).toBe(20));
  abort.abort();
  expect(await running).toMatchObject({ end: "stopped", moved: 20 });
});

test("says what is wrong", async () => {
  const { from, to } = await twoBrokers([orders]);
  expect(() => bridge(from, to, { source: topic("t") })).toThrow(/subscription/);
  expect(() => bridge(from, to, { source: orders, rate: 0 })).toThrow(/messages per second/);
  expect(() => bridge(from, to, { source: orders, speed: 1 } as never)).toThrow(/no option "speed"/);
  expect(() => bridge({} as never, to, { source: orders })).toThrow(/createBroker/);
  await expect(bridge(from, to, { source: queue("absent") }).run()).rejects.toMatchObject({ code: "not-found" });
  const stopped = createBroker(memory());
  await expect(bridge(stopped, to, { source: orders }).run()).rejects.toMatchObject({ code: "closed" });
  await from.send(orders, { n: 1 });
  const result = await bridge(from, to, { source: orders, target: queue("absent") }).run();
  expect(result).toMatchObject({ end: "failed", error: { code: "not-found" } });
  expect(await from.depth(orders)).toMatchObject({ ready: 1, unsettled: 0 });
  onTestFinished(() => stopped.stop());
});

for (const which of ["from", "to"] as const) {
  test(`fails with closed, and copies no more, when its broker object ${which} is stopped, also if that starts again`, async () => {
    const { from, to } = await twoBrokers([orders]);
    for (let n = 0; n < 50; n++) await from.send(orders, { n });
    const moving = bridge(from, to, { source: orders, until: "stopped", rate: 50 });
    const run = moving.run();
    await eventually(() => expect(moving.status().moved).toBeGreaterThan(0));
    const stopped = which === "from" ? from : to;
    await stopped.stop();
    await stopped.start();
    const { end, error, moved, repeated } = await run;
    expect({ end, code: error?.code }).toEqual({ end: "failed", code: "closed" });
    expect(moving.status().state).toBe("ended");
    expect(await to.depth(orders)).toMatchObject({ ready: moved + repeated });
    expect(await from.depth(orders)).toMatchObject({ ready: 50 - moved });
    const rest = bridge(from, to, { source: orders });
    expect(await rest.run()).toMatchObject({ end: "drained", moved: 50 - moved });
  });
}

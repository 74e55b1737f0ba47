import { EventEmitter } from "node:events";
import type { Channel, ConsumeMessage } from "amqplib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DeliveryCount } from "../../../adapters/rabbitmq/dead-letters.ts";
import { incoming } from "../../../adapters/rabbitmq/message-codec.ts";
import { ReceivingChannel } from "../../../adapters/rabbitmq/receiving-channel.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import type { IncomingMessage } from "../../../core/adapter.ts";
import type { MessagingError } from "../../../core/errors.ts";

interface FakeConsumer {
  readonly prefetch: number;
  readonly onMessage: (message: ConsumeMessage | null) => void;
  readonly held: Set<number>;
  active: boolean;
}

/** A broker with a full queue: every consumer is given at once as much as its prefetch allows. */
class FakeChannel extends EventEmitter {
  readonly consumers = new Map<string, FakeConsumer>();
  readonly requeued: number[] = [];
  readonly #bodyBytes: number;
  #prefetch = 0;
  #tag = 0;

  constructor(bodyBytes = 0) {
    super();
    this.#bodyBytes = bodyBytes;
  }

  async prefetch(count: number): Promise<void> {
    if (count === 0) throw new Error("a prefetch of 0 is no limit at all");
    this.#prefetch = count;
  }

  async consume(_queue: string, onMessage: (message: ConsumeMessage | null) => void): Promise<{ consumerTag: string }> {
    const consumer = { prefetch: this.#prefetch, onMessage, held: new Set<number>(), active: true };
    const consumerTag = `consumer-${this.consumers.size}`;
    this.consumers.set(consumerTag, consumer);
    this.#fill(consumer);
    return { consumerTag };
  }

  async cancel(consumerTag: string): Promise<void> {
    const consumer = this.consumers.get(consumerTag);
    if (consumer !== undefined) consumer.active = false;
  }

  ack(message: { fields: { deliveryTag: number } }, multiple = false): void {
    for (const consumer of this.consumers.values()) {
      for (const tag of consumer.held) {
        if (tag === message.fields.deliveryTag || (multiple && tag < message.fields.deliveryTag))
          consumer.held.delete(tag);
      }
      this.#fill(consumer);
    }
  }

  async close(): Promise<void> {
    this.emit("close");
  }

  nack(message: { fields: { deliveryTag: number } }): void {
    this.requeued.push(message.fields.deliveryTag);
    for (const { held } of this.consumers.values()) held.delete(message.fields.deliveryTag);
  }

  get unsettled(): number {
    return [...this.consumers.values()].reduce((sum, { held }) => sum + held.size, 0);
  }

  get activeCount(): number {
    return [...this.consumers.values()].filter(({ active }) => active).length;
  }

  #fill(consumer: FakeConsumer): void {
    if (consumer.active) this.give(consumer, consumer.prefetch - consumer.held.size);
  }

  give(consumer: FakeConsumer, count: number): void {
    for (let one = 0; one < count && consumer.active; one++) {
      consumer.held.add(++this.#tag);
      consumer.onMessage({
        fields: { deliveryTag: this.#tag, redelivered: false, exchange: "", routingKey: "q", consumerTag: "" },
        properties: { headers: {}, messageId: `m-${this.#tag}` },
        content: Buffer.alloc(this.#bodyBytes),
      } as unknown as ConsumeMessage);
    }
  }
}

function receivingFrom(fake: FakeChannel, ordered: boolean, prefetch: number) {
  const passed: IncomingMessage[] = [];
  const state = { passed, renewed: 0, ended: 0, causes: [] as MessagingError[], tooMuch: [] as number[] };
  const receiving = new ReceivingChannel(
    fake as unknown as Channel,
    {
      queue: "q",
      ordered,
      orderedPrefetch: 64,
      read: incoming,
      count: new DeliveryCount(serverVersion("4.3.0"), true),
      hold: () => undefined,
      handlerTimeoutMs: undefined,
      shown: (error) => error,
    },
    prefetch,
    {
      deliver: (batch) => passed.push(...batch),
      ended: (cause) => {
        state.ended++;
        state.causes.push(cause);
      },
      renew: () => void state.renewed++,
      heldBackTooMuch: (prefetch) => void state.tooMuch.push(prefetch),
      progressed: () => {},
      revoke: () => {},
      overdue: () => {},
      lost: () => {},
    },
  );
  return { receiving, state };
}

/** Everything that was set going, promises on promises, has come to rest. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const change = fc.oneof(
  fc.record({ prefetch: fc.integer({ min: 0, max: 40 }) }),
  fc.record({ settle: fc.integer({ min: 1, max: 40 }) }),
);

test.each([false, true])(
  "the engine never holds more than the prefetch over what it held before (ordered: %s)",
  async (ordered) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 40 }), fc.array(change, { maxLength: 30 }), async (first, changes) => {
        const fake = new FakeChannel();
        const { receiving, state } = receivingFrom(fake, ordered, first);
        await receiving.start();
        await settled();
        let prefetch = first;
        let held = state.passed.splice(0);
        expect(held.length).toBe(first);
        for (const step of changes) {
          if ("prefetch" in step) {
            prefetch = step.prefetch;
            receiving.prefetch(prefetch);
          } else {
            const batch = held.splice(0, step.settle).map(({ token }) => ({ token, action: "ack" as const }));
            expect(receiving.settle(batch)).toEqual(batch.map(() => "settled"));
            expect(receiving.settle(batch)).toEqual(batch.map(() => "fenced"));
          }
          const before = held.length;
          await settled();
          held = [...held, ...state.passed.splice(0)];
          expect(held.length).toBeLessThanOrEqual(Math.max(prefetch, before));
          if (!ordered) {
            expect(fake.unsettled).toBe(held.length);
            expect(fake.activeCount).toBeLessThanOrEqual(8);
            // Never starved: with the prefetch free, at least three quarters of it are used.
            expect(held.length).toBeGreaterThanOrEqual(Math.min(prefetch, Math.ceil(prefetch * 0.75)));
          } else {
            expect(fake.activeCount).toBeLessThanOrEqual(1);
          }
        }
      }),
    );
  },
);

test("an ordered queue's wider prefetch waits for a moment with nothing unsettled", async () => {
  const fake = new FakeChannel();
  const { receiving, state } = receivingFrom(fake, true, 2);
  await receiving.start();
  receiving.prefetch(1_000);
  await settled();
  expect(state.renewed).toBe(0);
  for (const consumer of fake.consumers.values()) consumer.active = false;
  const batch = state.passed.splice(0).map(({ token }) => ({ token, action: "ack" as const }));
  expect(batch).toHaveLength(64);
  receiving.settle(batch);
  await settled();
  expect([state.renewed, state.ended]).toEqual([1, 0]);
});

test("a cancel by the broker ends the channel, and fences what it delivered", async () => {
  const fake = new FakeChannel();
  const { receiving, state } = receivingFrom(fake, false, 3);
  await receiving.start();
  await settled();
  for (const { onMessage } of fake.consumers.values()) onMessage(null);
  await settled();
  expect(state.ended).toBe(1);
  const [first] = state.passed;
  expect(receiving.settle([{ token: first?.token, action: "ack" }])).toEqual(["fenced"]);
});

test("what is held back over an ordered queue's prefetch is bounded in bytes: the channel ends, for one that holds less", async () => {
  const fake = new FakeChannel(1024 * 1024);
  const { receiving, state } = receivingFrom(fake, true, 2);
  await receiving.start();
  await settled();
  expect(state.ended).toBe(1);
  const [prefetch = 0] = state.tooMuch;
  expect(prefetch).toBeGreaterThan(0);
  expect(prefetch).toBeLessThan(32);
});

test("what is too large beyond an unordered queue's prefetch is not kept, and requeued once its consumer is cancelled", async () => {
  const cancelled = Promise.withResolvers<void>();
  class SlowChannel extends FakeChannel {
    isFull = false;
    override give(consumer: FakeConsumer, count: number): void {
      if (this.isFull) super.give(consumer, count);
    }
    override async cancel(consumerTag: string): Promise<void> {
      await cancelled.promise;
      await super.cancel(consumerTag);
    }
  }
  const fake = new SlowChannel(1024 * 1024);
  const { receiving, state } = receivingFrom(fake, false, 200);
  await receiving.start();
  // The engine wants fewer, but these are under way already.
  receiving.prefetch(1);
  fake.isFull = true;
  for (const consumer of fake.consumers.values()) fake.give(consumer, 200);
  await settled();
  expect(fake.unsettled).toBe(200);
  expect(state.passed.length).toBeLessThanOrEqual(1 + 32);
  expect(fake.requeued).toEqual([]);
  cancelled.resolve();
  await settled();
  expect(fake.unsettled).toBe(state.passed.length);
  expect(fake.requeued).toHaveLength(200 - state.passed.length);
  expect(fake.activeCount).toBe(0);
  const batch = state.passed.splice(0).map(({ token }) => ({ token, action: "ack" as const }));
  expect(receiving.settle(batch)).toEqual(batch.map(() => "settled"));
  await settled();
  expect([state.passed.length, fake.activeCount, state.ended]).toEqual([1, 1, 0]);
});

test.each([false, true])("a server that ignores the prefetch ends the channel (ordered: %s)", async (ordered) => {
  const fake = new FakeChannel();
  const { receiving, state } = receivingFrom(fake, ordered, 64);
  await receiving.start();
  for (const consumer of fake.consumers.values()) {
    // A quorum queue whose consumer's node was away gives once more what it took back.
    fake.give(consumer, 64);
    await settled();
    expect(state.ended).toBe(0);
    fake.give(consumer, 100_000);
  }
  await settled();
  expect(state.ended).toBe(1);
  expect(state.causes).toMatchObject([{ code: "conflict" }]);
  expect(state.causes[0]?.message).toMatch(/queue "q" .*prefetch of 64/);
  expect(state.passed.length).toBeLessThanOrEqual(128);
  expect(receiving.settle(state.passed.map(({ token }) => ({ token, action: "ack" as const })))).toContain("fenced");
});

test("a delivery of another channel is fenced", async () => {
  const one = receivingFrom(new FakeChannel(), false, 1);
  const other = receivingFrom(new FakeChannel(), false, 1);
  await one.receiving.start();
  await other.receiving.start();
  await settled();
  const [delivery] = one.state.passed;
  expect(other.receiving.settle([{ token: delivery?.token, action: "ack" }])).toEqual(["fenced"]);
  expect(one.receiving.settle([{ token: delivery?.token, action: "ack" }])).toEqual(["settled"]);
});

test("a connection that breaks while subscribing rejects, and leaves no rejection unheard", async () => {
  class BrokenChannel extends FakeChannel {
    override async prefetch(): Promise<void> {
      throw new Error("Channel ended, no reply will be forthcoming");
    }
    override async consume(): Promise<{ consumerTag: string }> {
      throw new Error("Channel ended, no reply will be forthcoming");
    }
  }
  const unheard: unknown[] = [];
  const listen = (reason: unknown): void => void unheard.push(reason);
  process.on("unhandledRejection", listen);
  try {
    const { receiving } = receivingFrom(new BrokenChannel(), false, 1);
    await expect(receiving.start()).rejects.toThrow("Channel ended");
    // Node tells of unheard rejections after the turn in which they happened.
    await new Promise((resolve) => setImmediate(resolve));
    expect(unheard).toEqual([]);
  } finally {
    process.off("unhandledRejection", listen);
  }
});

import { EventEmitter } from "node:events";
import type { Channel, ConsumeMessage } from "amqplib";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DeliveryCount } from "../../../adapters/rabbitmq/dead-letters.ts";
import { consumerTimeoutIn, holdLimit } from "../../../adapters/rabbitmq/hold-limit.ts";
import { incoming } from "../../../adapters/rabbitmq/message-codec.ts";
import { ReceivingChannel } from "../../../adapters/rabbitmq/receiving-channel.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import type { DeliveryToken, IncomingMessage } from "../../../core/adapter.ts";

const LIMIT_MS = 10_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test.each<[string, boolean, number | undefined, number | undefined, ReturnType<typeof holdLimit>]>([
  ["4.3.6", true, undefined, undefined, { limitMs: 2 ** 31 - 1, isRequested: true }],
  ["4.3.6", true, 60_000, 5_000, { limitMs: 60_000, isRequested: true }],
  ["4.3.6", false, 60_000, undefined, undefined],
  ["4.2.9", true, undefined, undefined, { limitMs: 1_800_000, isRequested: false }],
  ["4.2.9", true, 60_000, undefined, { limitMs: 60_000, isRequested: false }],
  ["3.10.8", false, 60_000, 5_000, { limitMs: 5_000, isRequested: false }],
])("RabbitMQ %s (quorum: %s), told %s and learned %s", (version, isQuorum, told, learned, expected) => {
  expect(holdLimit(serverVersion(version), isQuorum, told, learned)).toEqual(expected);
});

test("the limit is read from what the server says as it closes the channel", () => {
  const close = (text: string) =>
    new Error(`Channel closed by server: 406 (PRECONDITION-FAILED) with message "${text}"`);
  const timedOut =
    "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. Timeout value used: 6000 ms. This";
  expect(consumerTimeoutIn(close(timedOut))).toBe(6_000);
  // 4.3 does not tell it there.
  expect(consumerTimeoutIn(close(timedOut.replace("6000", "-1")))).toBeUndefined();
  expect(consumerTimeoutIn(close("PRECONDITION_FAILED - unknown delivery tag 5"))).toBeUndefined();
  expect(consumerTimeoutIn(undefined)).toBeUndefined();
});

interface Stored {
  readonly id: string;
  redelivered: boolean;
}

/**
 * A queue with one active consumer, as RabbitMQ keeps it: it gives first what was requeued, in the order of the requeues. A
 * closed channel requeues by delivery tag. It takes back what is held too long.
 */
class FakeQueue extends EventEmitter {
  readonly acked: string[] = [];
  /** What was held for longer than the limit. */
  readonly takenBack: string[] = [];
  renewals = 0;
  /** What does not come again once it was given back, as if it had expired. */
  readonly vanishing = new Set<string>();
  /** What brings along the count of another queue. */
  readonly inherited = new Set<string>();
  readonly #requeued: Stored[] = [];
  readonly #fresh: Stored[] = [];
  readonly #held = new Map<number, Stored & { readonly at: number }>();
  #prefetch = 0;
  #tag = 0;
  #onMessage: ((message: ConsumeMessage) => void) | undefined;

  get depth(): number {
    return this.left.length + this.#held.size;
  }

  /** What nobody holds, in the order in which the next consumer gets it. */
  get left(): readonly string[] {
    return [...this.#requeued, ...this.#fresh].map(({ id }) => id);
  }

  publish(id: string): void {
    this.#fresh.push({ id, redelivered: false });
    this.#give();
  }

  async prefetch(count: number): Promise<void> {
    this.#prefetch = count;
  }

  async consume(_queue: string, onMessage: (message: ConsumeMessage) => void): Promise<{ consumerTag: string }> {
    this.#onMessage = onMessage;
    this.#give();
    return { consumerTag: "one" };
  }

  ack({ fields: { deliveryTag } }: ConsumeMessage, multiple = false): void {
    for (const [tag, { id }] of this.#held) {
      if (tag !== deliveryTag && !(multiple && tag < deliveryTag)) continue;
      this.#held.delete(tag);
      this.acked.push(id);
    }
    this.#give();
  }

  nack({ fields: { deliveryTag } }: ConsumeMessage, multiple: boolean): void {
    if (!this.#held.has(deliveryTag)) throw new Error(`unknown delivery tag ${deliveryTag}`);
    this.renewals++;
    this.#requeue((tag) => tag === deliveryTag || (multiple && tag < deliveryTag));
    this.#give();
  }

  #requeue(chosen: (tag: number) => boolean): void {
    for (const [tag, { id }] of this.#held) {
      if (!chosen(tag)) continue;
      this.#held.delete(tag);
      if (!this.vanishing.has(id)) this.#requeued.push({ id, redelivered: true });
    }
  }

  /** Looks for what is held for too long. */
  expire(): void {
    for (const { id, at } of this.#held.values()) {
      if (performance.now() - at > LIMIT_MS) this.takenBack.push(id);
    }
  }

  async close(): Promise<void> {
    this.#prefetch = 0;
    this.#requeue(() => true);
  }

  /** A network lies between: what is given arrives in another turn. */
  #give(): void {
    while (this.#held.size < this.#prefetch) {
      const stored = this.#requeued.shift() ?? this.#fresh.shift();
      if (stored === undefined) return;
      const deliveryTag = ++this.#tag;
      this.#held.set(deliveryTag, { ...stored, at: performance.now() });
      const isInherited = this.inherited.has(stored.id);
      const acquired = stored.redelivered ? { "x-acquired-count": 1 } : {};
      const counts = isInherited ? { "x-delivery-count": 9, "x-acquired-count": 9, ...acquired } : acquired;
      const redelivered = stored.redelivered || isInherited;
      const message = {
        fields: { deliveryTag, redelivered, exchange: "", routingKey: "q", consumerTag: "one" },
        properties: { headers: counts, messageId: stored.id },
        content: Buffer.alloc(0),
      } as unknown as ConsumeMessage;
      setImmediate(() => this.#onMessage?.(message));
    }
  }
}

function receivingFrom(fake: FakeQueue, ordered: boolean, prefetch: number, handlerTimeoutMs?: number) {
  const passed: IncomingMessage[] = [];
  const state = {
    passed,
    lost: [] as DeliveryToken[],
    revoked: [] as DeliveryToken[],
    overdue: [] as DeliveryToken[],
  };
  const receiving = new ReceivingChannel(
    fake as unknown as Channel,
    {
      queue: "q",
      ordered,
      orderedPrefetch: ordered ? 16 : prefetch,
      read: incoming,
      count: new DeliveryCount(serverVersion("4.3.0"), true),
      hold: () => ({ limitMs: LIMIT_MS, isRequested: false }),
      handlerTimeoutMs,
      shown: (error) => error,
    },
    prefetch,
    {
      deliver: (batch) => passed.push(...batch),
      ended: () => expect.unreachable("the channel ended"),
      renew: () => {},
      heldBackTooMuch: () => {},
      progressed: () => {},
      revoke: (tokens) => void state.revoked.push(...tokens),
      overdue: (tokens) => void state.overdue.push(...tokens),
      lost: (tokens) => void state.lost.push(...tokens),
    },
  );
  return { receiving, state };
}

/** What is on its way arrives. */
async function arrived(): Promise<void> {
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function pass(fake: FakeQueue, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    vi.advanceTimersByTime(500);
    await arrived();
    fake.expire();
  }
}

const step = fc.oneof(
  fc.record({ pass: fc.integer({ min: 500, max: 30_000 }) }),
  fc.record({ ack: fc.nat({ max: 15 }) }),
  fc.record({ release: fc.nat({ max: 15 }) }),
  fc.record({ publish: fc.integer({ min: 1, max: 10 }) }),
  fc.record({ prefetch: fc.nat({ max: 12 }) }),
);

/** The started consumer of an ordered queue that has so many messages, and what publishes more. */
async function receivingSome(count: number, prefetch: number) {
  const fake = new FakeQueue();
  let published = 0;
  const publish = (more: number): void => {
    for (let one = 0; one < more; one++) fake.publish(`m-${published++}`);
  };
  const { receiving, state } = receivingFrom(fake, true, prefetch);
  publish(count);
  await receiving.start();
  await arrived();
  return { fake, publish, published: () => published, receiving, state };
}

/** By number; some may be missing. */
const inOrder = (ids: readonly string[]): string[] =>
  ids.toSorted((one, other) => Number(one.slice(2)) - Number(other.slice(2)));

test("the end of an ordered queue's channel returns all in order, after any requeues and renewals", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 12 }), fc.array(step, { maxLength: 25 }), async (prefetch, steps) => {
      const { fake, publish, published, receiving, state } = await receivingSome(5, prefetch);
      for (const one of steps) {
        if ("publish" in one) publish(one.publish);
        // What was published just now is on its way while others are renewed.
        else if ("pass" in one) vi.advanceTimersByTime(one.pass);
        else if ("prefetch" in one) receiving.prefetch(one.prefetch);
        else {
          const at = "ack" in one ? one.ack : one.release;
          const [chosen] = state.passed.splice(at % Math.max(state.passed.length, 1), 1);
          const action = "ack" in one ? "ack" : "requeue";
          if (chosen !== undefined)
            expect(receiving.settle([{ token: chosen.token, action }]), `${action} ${chosen.id}`).toEqual(["settled"]);
        }
        if (!("publish" in one)) await arrived();
      }
      await arrived();
      await arrived();
      await receiving.close();
      expect(fake.left).toEqual(inOrder(fake.left));
      expect([...fake.left, ...fake.acked].toSorted()).toEqual(
        Array.from({ length: published() }, (_, n) => `m-${n}`).toSorted(),
      );
    }),
    { numRuns: 200 },
  );
});

test("what arrives while others are renewed does not come before them, should the channel end", async () => {
  const fake = new FakeQueue();
  const { receiving } = receivingFrom(fake, true, 3);
  for (const id of ["m-0", "m-1"]) fake.publish(id);
  await receiving.start();
  await arrived();
  fake.publish("m-2");
  vi.advanceTimersByTime(LIMIT_MS / 2 + 1);
  expect(fake.renewals).toBe(1);
  await arrived();
  await receiving.close();
  expect(fake.left).toEqual(["m-0", "m-1", "m-2"]);
});

test("what is requeued on an ordered queue waits here, in its place, and comes again while there is room", async () => {
  const fake = new FakeQueue();
  const { receiving, state } = receivingFrom(fake, true, 3);
  for (let n = 0; n < 6; n++) fake.publish(`m-${n}`);
  await receiving.start();
  await arrived();
  const [first, second, third] = state.passed.splice(0);
  receiving.prefetch(0);
  for (const one of [third, second]) {
    expect(receiving.settle([{ token: one?.token, action: "requeue" }])).toEqual(["settled"]);
    expect(receiving.settle([{ token: one?.token, action: "ack" }])).toEqual(["fenced"]);
  }
  expect(receiving.settle([{ token: first?.token, action: "ack" }])).toEqual(["settled"]);
  await arrived();
  expect([state.passed, fake.renewals]).toEqual([[], 0]);
  receiving.prefetch(3);
  await arrived();
  expect(state.passed.map(({ id }) => id)).toEqual(["m-1", "m-2", "m-3"]);
  await receiving.close();
  expect(fake.left).toEqual(["m-1", "m-2", "m-3", "m-4", "m-5"]);
});

test("an ordered queue's deliveries are never held too long, come once and in order, and are settled at any moment", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 12 }), fc.array(step, { maxLength: 25 }), async (prefetch, steps) => {
      const { fake, publish, published, receiving, state } = await receivingSome(20, prefetch);
      const held: IncomingMessage[] = [];
      const released = new Set<string>();
      const done: string[] = [];
      let last = -1;
      const take = (): void => {
        for (const message of state.passed.splice(0)) {
          // What was requeued comes again; all else in order, and once.
          if (!released.delete(message.id)) {
            const n = Number(message.id.slice(2));
            expect(n).toBeGreaterThan(last);
            last = n;
          }
          held.push(message);
        }
        expect(held.length).toBeLessThanOrEqual(prefetch);
      };
      take();
      for (const one of steps) {
        if ("pass" in one) await pass(fake, one.pass);
        else if ("publish" in one) publish(one.publish);
        else if (!("prefetch" in one)) {
          const action = "ack" in one ? "ack" : "requeue";
          const [chosen] = held.splice(("ack" in one ? one.ack : one.release) % Math.max(held.length, 1), 1);
          if (chosen !== undefined) {
            if (action === "ack") done.push(chosen.id);
            else released.add(chosen.id);
            expect(receiving.settle([{ token: chosen.token, action }])).toEqual(["settled"]);
            expect(receiving.settle([{ token: chosen.token, action }])).toEqual(["fenced"]);
          }
        }
        await arrived();
        take();
      }
      for (let rounds = 0; rounds < 200 && (held.length > 0 || fake.depth > 0); rounds++) {
        for (const { token, id } of held.splice(0)) {
          done.push(id);
          receiving.settle([{ token, action: "ack" }]);
        }
        await arrived();
        take();
      }
      expect(fake.takenBack).toEqual([]);
      expect(state.lost).toEqual([]);
      expect(done.toSorted()).toEqual(Array.from({ length: published() }, (_, n) => `m-${n}`).toSorted());
      expect(fake.acked.toSorted()).toEqual(done.toSorted());
      await receiving.close();
    }),
    { numRuns: 60 },
  );
});

test("a delivery that is settled while it is renewed is settled when it comes back", async () => {
  const fake = new FakeQueue();
  const { receiving, state } = receivingFrom(fake, true, 3);
  fake.publish("m-0");
  await receiving.start();
  await arrived();
  const [first] = state.passed.splice(0);
  vi.advanceTimersByTime(LIMIT_MS / 2 + 1);
  expect(fake.renewals).toBe(1);
  expect(receiving.settle([{ token: first?.token, action: "ack" }])).toEqual(["settled"]);
  expect(fake.acked).toEqual([]);
  await arrived();
  expect([fake.acked, state.passed, fake.depth]).toEqual([["m-0"], [], 0]);
  await receiving.close();
});

test("one that does not come back is lost, and others go on", async () => {
  const fake = new FakeQueue();
  fake.vanishing.add("m-0");
  const { receiving, state } = receivingFrom(fake, true, 3);
  for (const id of ["m-0", "m-1"]) fake.publish(id);
  await receiving.start();
  await arrived();
  const [first, second] = state.passed.splice(0);
  await pass(fake, 60_000);
  expect(state.lost).toEqual([first?.token]);
  expect(receiving.settle([{ token: first?.token, action: "ack" }])).toEqual(["fenced"]);
  expect(receiving.settle([{ token: second?.token, action: "ack" }])).toEqual(["settled"]);
  await arrived();
  expect([fake.acked, fake.depth, fake.takenBack]).toEqual([["m-1"], 0, []]);
  await receiving.close();
});

test("on an ordered queue nothing is requeued to learn whose count it has", async () => {
  const fake = new FakeQueue();
  fake.inherited.add("m-1");
  const { receiving, state } = receivingFrom(fake, true, 3, 60_000);
  for (const id of ["m-0", "m-1", "m-2"]) fake.publish(id);
  await receiving.start();
  await arrived();
  expect(state.passed.map(({ id, redeliveries }) => [id, redeliveries])).toEqual([
    ["m-0", 0],
    ["m-1", 9],
    ["m-2", 0],
  ]);
  expect(fake.renewals).toBe(0);
  await receiving.close();
});

test("an unordered queue's deliveries are asked back while a handler has time, and are over before RabbitMQ takes them", async () => {
  const fake = new FakeQueue();
  const { receiving, state } = receivingFrom(fake, false, 2, 3_000);
  for (const id of ["m-0", "m-1"]) fake.publish(id);
  await receiving.start();
  await arrived();
  const [first, second] = state.passed.splice(0);
  await pass(fake, 1_500);
  expect(state.revoked).toEqual([]);
  await pass(fake, 1_000);
  expect(state.revoked).toEqual([first?.token, second?.token]);
  receiving.settle([{ token: second?.token, action: "requeue" }]);
  await pass(fake, 2_000);
  expect(state.overdue).toEqual([]);
  await pass(fake, 1_000);
  expect(state.overdue).toEqual([first?.token]);
  receiving.settle([{ token: first?.token, action: "ack" }]);
  await pass(fake, 1_000);
  expect(fake.takenBack).toEqual([]);
  expect(fake.acked).toEqual(["m-0"]);
  expect(state.passed.map(({ id }) => id)).toEqual(["m-1"]);
  await receiving.close();
});

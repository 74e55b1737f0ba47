import { expect, test } from "vitest";
import { CaseContext, type Work } from "../../../conformance/context.ts";
import { watch } from "../../../conformance/decorators/watch.ts";
import type { Harness } from "../../../conformance/index.ts";
import { drained } from "../../../conformance/judge.ts";
import { chooseSeed } from "../../../conformance/seed.ts";
import type { Receipt } from "../../../core/broker.ts";
import { deadLetter, type Handler } from "../../../core/delivery.ts";
import type { Queue } from "../../../core/destination.ts";
import {
  type IdempotencyEvent,
  type IdempotencyStore,
  type IdempotentOptions,
  idempotent,
  memoryIdempotencyStore,
} from "../../../patterns/idempotency/index.ts";
import { newDatabase, openStore } from "./sqlite-database.ts";
import { Worker } from "./worker-process.ts";
import { MoodyStore } from "./world.ts";

const MESSAGES = 40;
const TIMEOUT_MS = 600_000;

/** What handlers did, and what the middleware told. */
class Books {
  readonly effects = new Map<string, number>();
  readonly events: IdempotencyEvent[] = [];

  /** A handler's work. */
  readonly effect: Handler<Work> = (_, { id, subscription = "" }) => {
    const what = `${id} ${subscription}`.trim();
    this.effects.set(what, (this.effects.get(what) ?? 0) + 1);
  };

  use(store: IdempotencyStore, options: IdempotentOptions<unknown> = {}) {
    return [
      idempotent(store, { waitMs: 200, postponeMs: 200, onEvent: (event) => this.events.push(event), ...options }),
    ];
  }

  count(type: IdempotencyEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }

  /** Effects beyond the first of each message. */
  get repeated(): readonly string[] {
    return [...this.effects].flatMap(([what, times]) => new Array<string>(times - 1).fill(what));
  }
}

/** Every message twice, under one id. */
async function twice(context: CaseContext, send: (body: Work, id: string) => Promise<Receipt>): Promise<string[]> {
  const ids = Array.from({ length: MESSAGES }, () => context.id());
  await Promise.all(ids.flatMap((id, n) => [send({ n }, id), send({ n }, id)]));
  return ids;
}

async function sentTwice(context: CaseContext, orders: Queue<Work>): Promise<string[]> {
  const publisher = await context.started({ destinations: [orders] });
  return twice(context, (body, id) => publisher.send(orders, body, { id }));
}

/** Registers the pattern's cases on a broker. */
export function idempotentConsumers(harness: Harness): void {
  const seed = chooseSeed(process.env.CONFORMANCE_SEED);

  function on(title: string, run: (context: CaseContext, books: Books) => Promise<void>): void {
    test(title, { timeout: TIMEOUT_MS }, async () => {
      const context = new CaseContext(harness, "idempotency", seed);
      try {
        await run(context, new Books());
      } finally {
        await context.close();
      }
    });
  }

  on("every message is published twice, over several consumers, and has one effect", async (context, books) => {
    const orders = context.queue("orders");
    const store = memoryIdempotencyStore();
    const consumers = await Promise.all(
      [1, 2].map(() => context.started({}, (one) => one.consume(orders, books.effect, { use: books.use(store) }))),
    );
    const ids = await sentTwice(context, orders);
    await context.until("each to be done once and known once", () => books.count("duplicate") >= MESSAGES);
    for (const consumer of consumers) await drained(context, consumer, orders);
    expect([...books.effects.keys()].sort()).toEqual([...ids].sort());
    expect(books.repeated).toEqual([]);
  });

  on("a failing message is tried again, and has one effect", async (context, books) => {
    const orders = context.queue("orders");
    const failed = new Set<string>();
    const handler: Handler<Work> = (body, delivery) => {
      if (failed.has(delivery.id)) return books.effect(body, delivery);
      failed.add(delivery.id);
      throw new Error("not yet");
    };
    const retry = { attempts: 5, delay: { firstMs: 20, factor: 1 } };
    const consumer = await context.started({}, (one) =>
      one.consume(orders, handler, { retry, use: books.use(memoryIdempotencyStore()) }),
    );
    const ids = await sentTwice(context, orders);
    await context.until("each to be done once and known once", () => books.count("duplicate") >= MESSAGES);
    await drained(context, consumer, orders);
    expect([...books.effects.keys()].sort()).toEqual([...ids].sort());
    expect(books.repeated).toEqual([]);
  });

  on("what was dead-lettered runs when it is replayed, and what is done does not", async (context, books) => {
    const orders = context.queue("orders");
    const state = { broken: true };
    const handler: Handler<Work> = (body, delivery) =>
      state.broken ? deadLetter("the price is missing") : books.effect(body, delivery);
    const broker = context.broker();
    const consumer = broker.consume(orders, handler, { use: books.use(memoryIdempotencyStore()) });
    await broker.start();
    const id = context.id();
    await broker.send(orders, { n: 0 }, { id });
    await context.until("the dead letter", () => consumer.status().deadLettered === 1);
    state.broken = false;
    await broker.send(orders, { n: 0 }, { id });
    await context.until("the replay to run", () => books.effects.size === 1);
    await broker.send(orders, { n: 0 }, { id });
    await context.until("the second replay to be known", () => books.count("duplicate") === 1);
    await drained(context, broker, orders);
    expect([...books.effects]).toEqual([[id, 1]]);
  });

  on("while the store is down all wait: none is lost, run unprotected or dead-lettered", async (context, books) => {
    const orders = context.queue("orders");
    const store = new MoodyStore(memoryIdempotencyStore());
    store.mood = "down";
    const broker = context.broker();
    const options = { retry: { attempts: 1 }, use: books.use(store, { waitMs: 20 }) };
    const consumer = broker.consume(orders, books.effect, options);
    await broker.start();
    const ids = await sentTwice(context, orders);
    await context.until("all to be postponed, some of them twice", () => books.count("postponed") > 3 * MESSAGES);
    expect(books.effects.size).toBe(0);
    store.mood = "well";
    await context.until("each to be done once and known once", () => books.count("duplicate") >= MESSAGES);
    await drained(context, broker, orders);
    expect([...books.effects.keys()].sort()).toEqual([...ids].sort());
    expect(books.repeated).toEqual([]);
    expect(consumer.status()).toMatchObject({ failed: 0, deadLettered: 0 });
  });

  on("a consumer loses its broker while it handles: the redelivered message waits for it", async (context, books) => {
    const orders = context.queue("orders");
    const store = memoryIdempotencyStore();
    const watched = watch(context.harness.adapter());
    const gate = Promise.withResolvers<void>();
    let started = 0;
    const slow: Handler<Work> = async (body, delivery) => {
      started++;
      await gate.promise;
      return books.effect(body, delivery);
    };
    await context.started({}, (one) => one.consume(orders, slow, { use: books.use(store) }), watched.adapter);
    const publisher = await context.started({ destinations: [orders] });
    const id = context.id();
    await publisher.send(orders, { n: 0 }, { id });
    await context.until("the handler to run", () => started === 1);
    await watched.adapter.close();
    const other = await context.started({}, (one) => one.consume(orders, books.effect, { use: books.use(store) }));
    await context.until("the redelivered message to wait", () => books.count("postponed") > 0);
    expect(books.effects.size).toBe(0);
    gate.resolve();
    await context.until("the redelivered message to be known", () => books.count("duplicate") > 0);
    await drained(context, other, orders);
    expect([...books.effects]).toEqual([[id, 1]]);
  });

  if (harness.withoutTopics === undefined) {
    on("each subscription has the effect of each event once", async (context, books) => {
      const placed = context.topic("placed");
      const store = memoryIdempotencyStore();
      const consumer = await context.started({}, (one) => {
        for (const name of ["billing", "stock"]) {
          one.subscribe(placed, name, books.effect, { use: books.use(store) });
        }
      });
      const ids = await twice(context, (body, id) => consumer.publish(placed, body, { id }));
      await context.until("each to be done once and known once", () => books.count("duplicate") >= 2 * MESSAGES);
      for (const name of ["billing", "stock"]) await drained(context, consumer, placed, name);
      const expected = ids.flatMap((id) => [`${id} billing`, `${id} stock`]);
      expect([...books.effects.keys()].sort()).toEqual(expected.sort());
      expect(books.repeated).toEqual([]);
    });
  }

  if ("processes" in harness) idempotentProcesses(harness, on);
}

type On = (title: string, run: (context: CaseContext, books: Books) => Promise<void>) => void;

const LEASE_MS = 5_000;

function idempotentProcesses(harness: Harness, on: On): void {
  const place = (context: CaseContext, orders: Queue<Work>) => {
    const adapter = harness.processes;
    if (adapter === undefined) throw new Error("the harness has no processes");
    const { file, remove } = newDatabase();
    context.cleanUp(async () => remove());
    const { store, close } = openStore(file);
    context.cleanUp(close);
    const order = { adapter, file, queue: orders.name, leaseMs: LEASE_MS };
    return { store, order, log: (n: number) => `${file}.${n}.log` };
  };

  on("a worker is killed before its effects: others have them, once each", async (context, books) => {
    const orders = context.queue("orders");
    const { store, order, log } = place(context, orders);
    const ids = await sentTwice(context, orders);
    const concurrency = 2 * MESSAGES;
    const worker = await Worker.start(context, { ...order, log: log(0), concurrency, stall: true });
    // Of each message one copy is being handled, and the other waits for it.
    await context.until("all to be claimed", () => new Set(worker.starts).size === MESSAGES);
    await worker.kill();
    const use = books.use(store, { leaseMs: LEASE_MS });
    const survivor = await context.started({}, (one) => one.consume(orders, books.effect, { use }));
    await context.until("each to be done once and known once", () => books.count("duplicate") >= MESSAGES);
    await drained(context, survivor, orders);
    expect([...books.effects.keys()].sort()).toEqual([...ids].sort());
    expect(books.repeated).toEqual([]);
  });

  on("workers are killed at random: no effect is missing, and none doubled but of what ran", async (context, books) => {
    const orders = context.queue("orders");
    const { store, order, log } = place(context, orders);
    const ids = await sentTwice(context, orders);
    const [kills, concurrency] = [3, 4];
    for (let n = 0; n < kills; n++) {
      const worker = await Worker.start(context, { ...order, log: log(n), concurrency, stall: false });
      const enough = 1 + Math.floor(context.random() * 8);
      // On a busy machine one worker may have done all before it is seen to have done enough.
      const isDone = (): boolean => ids.every((id) => books.effects.has(id) || worker.effects.includes(id));
      await context.until("some effects", () => worker.effects.length >= enough || isDone());
      await worker.kill();
      for (const id of worker.effects) books.effects.set(id, (books.effects.get(id) ?? 0) + 1);
    }
    const use = books.use(store, { leaseMs: LEASE_MS });
    const survivor = await context.started({}, (one) => one.consume(orders, books.effect, { use }));
    await context.until("each to be done", () => ids.every((id) => books.effects.has(id)));
    await drained(context, survivor, orders);
    // Between effect and completion a kill leaves the effect unknown: at most what ran in each worker.
    expect(books.repeated.length).toBeLessThanOrEqual(kills * concurrency);
    expect([...books.effects.keys()].sort()).toEqual([...ids].sort());
  });
}

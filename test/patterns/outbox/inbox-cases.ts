import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CaseContext, type Work } from "../../../conformance/context.ts";
import type { Harness } from "../../../conformance/index.ts";
import { drained } from "../../../conformance/judge.ts";
import { chooseSeed } from "../../../conformance/seed.ts";
import { present } from "../../../conformance/stores/suite.ts";
import type { Broker } from "../../../core/broker.ts";
import type { Queue } from "../../../core/destination.ts";
import {
  createOutbox,
  createRelay,
  type InboxEvent,
  type InboxOptions,
  transactional,
} from "../../../patterns/outbox/index.ts";
import { type Books, type BooksPlace, openBooks } from "./inbox-books.ts";
import { type InboxWorkOrder, STEPS } from "./inbox-steps.ts";

const PROGRAM = fileURLToPath(new URL("inbox-worker.ts", import.meta.url));
const MESSAGES = 20;
const TIMEOUT_MS = 600_000;

/** A database for a case, empty. */
export interface InboxDatabase {
  readonly name: string;
  place(): Promise<{ readonly place: BooksPlace; remove(): Promise<void> }>;
}

/** One case: its books, and what `transactional` told. */
class Desk {
  readonly context: CaseContext;
  readonly place: BooksPlace;
  readonly books: Books;
  readonly events: InboxEvent[] = [];

  constructor(context: CaseContext, place: BooksPlace, books: Books) {
    this.context = context;
    this.place = place;
    this.books = books;
  }

  /** A handler whose effect is the message's id, and that sends the message on. */
  handler(broker: Broker, next: Queue<Work>, options: InboxOptions = {}) {
    const { inbox, store, write } = this.books;
    const outbox = createOutbox({ store, broker });
    return transactional<Work, unknown>(
      inbox,
      async (body, { id }, transaction) => {
        await write(transaction, id);
        await outbox.send(transaction, next, body, { id });
      },
      { waitMs: 2_000, postponeMs: 200, onEvent: (event) => this.events.push(event), ...options },
    );
  }

  count(type: InboxEvent["type"]): number {
    return this.events.filter((event) => event.type === type).length;
  }

  /** The ids of all messages that wait in the outbox, in the order of their text. */
  async outgoing(): Promise<readonly string[]> {
    const ids: string[] = [];
    for (;;) {
      const claim = await this.books.store.claim({ relay: "test", limit: 1_000, leaseMs: 600_000 });
      if (claim === undefined) return ids.sort();
      ids.push(...claim.rows.map(({ id }) => id));
    }
  }

  /** Sends every message so many times under one id; the ids in the order of their text. */
  async sent(orders: Queue<Work>, times: number): Promise<readonly string[]> {
    const publisher = await this.context.started({ destinations: [orders] });
    const ids = Array.from({ length: MESSAGES }, () => this.context.id());
    const sending = ids.flatMap((id, n) => Array.from({ length: times }, () => publisher.send(orders, { n }, { id })));
    await Promise.all(sending);
    return ids.sort();
  }
}

/** Registers the inbox's cases on a broker and a database. */
export function inboxConsumers(harness: Harness, database: InboxDatabase): void {
  const seed = chooseSeed(process.env.CONFORMANCE_SEED);

  function on(title: string, run: (desk: Desk) => Promise<void>): void {
    test(`${database.name}: ${title}`, { timeout: TIMEOUT_MS }, async () => {
      const context = new CaseContext(harness, "inbox", seed);
      try {
        const { place, remove } = await database.place();
        context.cleanUp(remove);
        const books = await openBooks(place);
        context.cleanUp(() => books.close());
        await run(new Desk(context, place, books));
      } finally {
        await context.close();
      }
    });
  }

  on("every message comes twice to several consumers, and has one effect and one outgoing message", async (desk) => {
    const { context, books } = desk;
    const [orders, next] = [context.queue("orders"), context.queue("next")];
    const consumers = await Promise.all(
      [1, 2].map(() => context.started({}, (one) => one.consume(orders, desk.handler(one, next), { concurrency: 4 }))),
    );
    const ids = await desk.sent(orders, 2);
    await context.until("each to be done once and known once", () => desk.count("duplicate") >= MESSAGES);
    for (const consumer of consumers) await drained(context, consumer, orders);
    expect(await books.effects()).toEqual(ids);
    expect(await desk.outgoing()).toEqual(ids);
  });

  on("from broker to database to broker and on, each message has one effect", async (desk) => {
    const { context, books } = desk;
    const [orders, next] = [context.queue("orders"), context.queue("next")];
    const broker = await context.started({ destinations: [next] }, (one) => {
      one.consume(orders, desk.handler(one, next), { concurrency: 4 });
      const billed = transactional<Work, unknown>(
        books.inbox,
        (_, { id }, transaction) => books.write(transaction, `${id} billed`),
        { waitMs: 2_000, postponeMs: 200 },
      );
      one.consume(next, billed, { concurrency: 4 });
    });
    const relays = [1, 2].map(() => createRelay({ store: books.store, broker, pollMs: 50 }));
    for (const relay of relays) {
      await relay.start();
      context.cleanUp(() => relay.stop());
    }
    const ids = await desk.sent(orders, 2);
    await context.until("all to be billed", async () => (await books.effects()).length >= 2 * MESSAGES);
    await context.until("all duplicates to be known", () => desk.count("duplicate") >= MESSAGES);
    for (const relay of relays) await relay.stop();
    await drained(context, broker, next);
    await drained(context, broker, orders);
    expect(await books.effects()).toEqual(ids.flatMap((id) => [id, `${id} billed`]).sort());
  });

  // Not asked for before the case runs: some are made for each run.
  if (!("processes" in harness)) return;

  on("workers are killed between every two steps: one effect and one outgoing message of each", async (desk) => {
    const { context, books, place } = desk;
    const adapter = present("the way to another process", harness.processes);
    const [orders, next] = [context.queue("orders"), context.queue("next")];
    const ids = await desk.sent(orders, 1);
    for (const step of STEPS) {
      const nth = 1 + Math.floor(context.random() * 3);
      await killed(context, { adapter, books: place, queue: orders.name, next: next.name, step, nth });
    }
    // What was held by all who died has lost as many attempts.
    const retry = { attempts: 10 * STEPS.length };
    const survivor = await context.started({}, (one) =>
      one.consume(orders, desk.handler(one, next), { concurrency: 4, retry }),
    );
    await context.until("all to be done", async () => (await books.effects()).length >= MESSAGES, 120_000);
    await drained(context, survivor, orders);
    expect(await books.effects()).toEqual(ids);
    expect(await desk.outgoing()).toEqual(ids);
  });
}

/** Runs a worker until it dies as it was told to. */
async function killed(context: CaseContext, order: InboxWorkOrder): Promise<void> {
  const child = fork(PROGRAM, { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const state: { signal: string | null | undefined } = { signal: undefined };
  const exited = once(child, "exit").then(([, signal]) => {
    state.signal = signal as string | null;
  });
  context.cleanUp(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  child.send(order);
  await context.until(`a worker to die when it has ${order.step}`, () => state.signal !== undefined, 120_000);
  expect(state.signal).toBe("SIGKILL");
}

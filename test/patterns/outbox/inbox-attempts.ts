import { createBroker, type Delivery, queue } from "anybroker";
import type { HandlerResult } from "anybroker/adapter";
import { memory } from "anybroker/memory";
import type { Pool, PoolClient } from "pg";
import { expect, onTestFinished } from "vitest";
import { type InboxEvent, type InboxStore, transactional } from "../../../patterns/outbox/index.ts";

/** What a message came to whose handler is to have only so many attempts. */
export interface Attempts {
  /** The attempt of each start, in order. */
  readonly starts: number[];
  /** The reasons of the dead letter, if it came to that. */
  readonly dead: string[];
  readonly succeeded: () => number;
  readonly inboxEvents: InboxEvent[];
}

/**
 * Sends one message to a handler that has a few attempts, without long pauses, on a broker in this process. Stops when the
 * test does.
 */
export async function attempting<Transaction>(
  inbox: InboxStore<Transaction>,
  attempts: number,
  work: (transaction: Transaction, delivery: Delivery) => HandlerResult | Promise<HandlerResult>,
): Promise<Attempts> {
  const orders = queue<Record<string, never>>("orders");
  const starts: number[] = [];
  const dead: string[] = [];
  const inboxEvents: InboxEvent[] = [];
  const broker = createBroker(memory(), {
    destinations: [orders],
    onEvent: (event) => {
      if (event.type === "dead-lettered") dead.push(event.reason);
    },
  });
  onTestFinished(() => broker.stop({ timeoutMs: 1_000 }).then(() => undefined));
  const consumer = broker.consume(
    orders,
    transactional(
      inbox,
      (_, delivery, transaction) => {
        starts.push(delivery.attempt);
        return work(transaction, delivery);
      },
      { postponeMs: 20, waitMs: 200, clean: false, onEvent: (event) => inboxEvents.push(event) },
    ),
    { retry: { attempts, delay: { firstMs: 0 } } },
  );
  await broker.start();
  await broker.send(orders, {}, { id: "m-1" });
  return { starts, dead, succeeded: () => consumer.status().succeeded, inboxEvents };
}

/** Waits until the message is dead, or was started more often than it may; and expects the former. */
export async function expectDeadAfter(attempts: number, run: Attempts): Promise<void> {
  await expect.poll(() => run.dead.length > 0 || run.starts.length > attempts, { timeout: 60_000 }).toBe(true);
  const counted = Array.from({ length: attempts }, (_, n) => n + 1);
  expect({ starts: run.starts, dead: run.dead }).toEqual({ starts: counted, dead: ["attempts"] });
}

/** The process of the server that serves a connection. */
export async function processOf(client: PoolClient): Promise<number> {
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return rows[0]?.pid ?? Number.NaN;
}

/** Waits until the server has ended a connection, as another connection sees it. */
export async function ended(pool: Pool, pid: number): Promise<void> {
  const count = async () => (await pool.query("SELECT FROM pg_stat_activity WHERE pid = $1", [pid])).rowCount;
  await expect.poll(count).toBe(0);
}

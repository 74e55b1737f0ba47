import type { Server } from "node:http";
import { serve } from "@hono/node-server";
import { type Adapter, createBroker } from "anybroker";
import { createOutbox, createRelay } from "anybroker/outbox";
import { orderApi } from "./api.ts";
import { Books } from "./books.ts";
import { type Database, withDatabase } from "./database.ts";
import type { Job, RunningPart } from "./job.ts";
import { type Order, placedIn } from "./orders.ts";

const POLL_MS = 100;
/** What a killed relay held is another's after so long. */
const LEASE_MS = 3_000;

/** A part of the service that serves HTTP. */
export interface RunningShop extends RunningPart {
  readonly url: string;
}

/** Starts a shop: the HTTP API, and beside it a relay. */
export function startShop(adapter: Adapter, job: Job): Promise<RunningShop> {
  return withDatabase(job.database, job.run, (database) => shopOn(database, adapter, job));
}

async function shopOn<Transaction>(
  database: Database<Transaction>,
  adapter: Adapter,
  { run, outbox: hasOutbox }: Job,
): Promise<RunningShop> {
  const broker = createBroker(adapter);
  const books = new Books(database, run);
  const outbox = createOutbox({ store: database.outbox, broker });
  const relay = createRelay({ store: database.outbox, broker, pollMs: POLL_MS, leaseMs: LEASE_MS });
  const placed = placedIn(run);

  const api = orderApi(async (order: Order) => {
    // This is it: the event is written where the order is, in the transaction of the order.
    if (hasOutbox) return books.place(order, (transaction) => outbox.publish(transaction, placed, order));
    // And this is what it is instead of: two writes to two places, and a process that may die in between.
    const placing = await books.place(order, async () => undefined);
    if (placing === "placed") await broker.publish(placed, order);
    return placing;
  });

  await broker.start();
  await relay.start();
  const { promise: listening, resolve: listens } = Promise.withResolvers<number>();
  const server = serve({ fetch: api.fetch, hostname: "127.0.0.1", port: 0 }, ({ port }) => listens(port)) as Server;
  return {
    url: `http://127.0.0.1:${await listening}`,
    async stop() {
      await new Promise((closed) => server.close(closed));
      await relay.stop();
      await broker.stop();
      await database.close();
    },
    async cutOff() {
      server.close();
      server.closeAllConnections();
      await Promise.all([adapter.close(), database.close()]);
      await relay.stop({ timeoutMs: 0 });
      await broker.stop({ timeoutMs: 0 });
    },
  };
}

// One process of a service that sells and handles while it moves between brokers.
import { setTimeout as sleep } from "node:timers/promises";
import { addressName, workAddress } from "../../../../core/address.ts";
import type { Delivery, Middleware } from "../../../../core/delivery.ts";
import { MessagingError } from "../../../../core/errors.ts";
import { workAsProcess } from "../../../../examples/shared/worker-process.ts";
import { migration } from "../../../../patterns/migration/index.ts";
import { catalog, type Numbered } from "../catalog.ts";
import { Books } from "./books.ts";
import { type Job, once, openAdapter, openState } from "./job.ts";

const PAUSE_MS = 100;
const AGAIN_MS = 20;

await workAsProcess<Job>(async ({ worker, customers, namePrefix, folder, state: place, ...adapters }) => {
  const books = new Books(folder);
  const { state, idempotency, close } = await openState(folder, place);
  const { orders, emails, placed, destinations } = catalog(namePrefix);
  const sourceOf = ({ destination, subscription }: Delivery): string =>
    addressName(workAddress(destination, subscription));

  // The effects and the store of what was handled are two databases: a kill between them makes an effect happen again.
  const handledOnce = once(idempotency);
  const noted: Middleware = (next) => {
    const inner = handledOnce(next);
    return async (body, delivery) => {
      const outcome = await inner(body, delivery);
      if (outcome === undefined) books.complete(sourceOf(delivery), delivery.id, worker);
      return outcome;
    };
  };
  const broker = migration({
    from: await openAdapter(adapters.from),
    to: await openAdapter(adapters.to),
    destinations,
    state,
    idempotency: noted,
    leaseMs: 12_000,
    pollMs: 100,
    onMigrationEvent: (event) => {
      // What explains a difference between the report and the books.
      if (event.type === "unrecorded") console.error(`${worker}: ${event.marks} marks are late`, event.error);
    },
    broker: { consume: { retry: { attempts: 50, delay: { firstMs: 10, maxMs: 50 } } } },
  });
  const handle = (body: Numbered, delivery: Delivery): void =>
    books.effect(sourceOf(delivery), delivery.id, body, worker);
  broker.consume(orders, handle);
  broker.consume(emails, handle);
  broker.subscribe(placed, "billing", handle);
  broker.subscribe(placed, "shipping", handle);
  await broker.start();

  /** Sends until it is confirmed, and takes up what another process left open. */
  async function insist(destination: string, body: Numbered, send: (id: string) => Promise<unknown>): Promise<void> {
    const id = `${body.customer}-${body.n}`;
    const known = books.begin(destination, id, body, worker);
    // What is not ordered is left as it is: handled or not, nobody was told that it was accepted.
    if (known === "accepted" || (known === "open" && destination === emails.name)) return;
    for (;;) {
      try {
        await send(id);
        return books.accept(destination, id, worker);
      } catch (error) {
        if (!(error instanceof MessagingError)) throw error;
        await sleep(AGAIN_MS);
      }
    }
  }
  async function sell(customer: string): Promise<void> {
    // The last of those before may not be complete.
    for (let n = books.lastOf(customer); ; n++) {
      const body = { customer, n };
      await insist(orders.name, body, (id) => broker.send(orders, body, { id }));
      await insist(emails.name, body, (id) => broker.send(emails, body, { id }));
      await insist(placed.name, body, (id) => broker.publish(placed, body, { id }));
      if (!books.isShopOpen) return;
      await sleep(Math.random() * PAUSE_MS);
    }
  }
  const selling = Promise.all(customers.map(sell));
  return {
    async stop() {
      await selling;
      await broker.stop();
      await close();
      books.close();
    },
  };
});

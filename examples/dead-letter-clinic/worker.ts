import { setTimeout as sleep } from "node:timers/promises";
import { type Adapter, type Broker, createBroker, deadLetter } from "anybroker";
import { type IdempotencyStore, idempotent } from "anybroker/idempotency";
import type { Ledger } from "./ledger.ts";
import { LOAD_TEST, type Order, type Orders } from "./orders.ts";

/** Which version of the worker: the bad deploy, or the fix. */
export type Version = "v2" | "v3";

/** What makes the fix: v2 asks prices of a service that is not there yet. */
const PRICES: Readonly<Record<Version, string>> = {
  v2: "https://prices-next.example",
  v3: "https://prices.example",
};

const PRICE_WITHIN_MS = 20;

class PriceTimeout extends Error {
  override readonly name = "PriceTimeout";
}

/** What a worker works with besides its broker. */
export interface Office {
  readonly orders: Orders;
  readonly ledger: Ledger;
  /** What was handled before is not handled again, by whatever version. */
  readonly done: IdempotencyStore;
}

/** Deploys a version of the worker; it works until its broker object is stopped. */
export async function deploy(version: Version, adapter: Adapter, { orders, ledger, done }: Office): Promise<Broker> {
  const broker = createBroker(adapter, {
    onEvent: (event) => {
      // The id of an order's message is the order's own: see main.ts.
      if (event.type === "dead-lettered") ledger.deadLettered(event.id);
    },
  });
  const once = idempotent(done, {
    onEvent: ({ type }) => {
      if (type === "duplicate") ledger.keptBack();
    },
  });
  broker.consume(
    orders.handled,
    async (order, { id, signal }) => {
      if (order.customer.startsWith(LOAD_TEST))
        return deadLetter(`"${order.customer}" is a load test, nobody wants it`);
      if (order.currency !== "EUR") await convert(order, PRICES[version], signal);
      ledger.handled(order.id, id);
    },
    // One attempt, so that there are dead letters soon. A shop would try for as long as such a service may be away.
    { concurrency: 100, retry: { attempts: 1 }, use: [once] },
  );
  await broker.start();
  return broker;
}

/** Asks a service for the price in euros. The new one does not answer. */
async function convert({ id }: Order, service: string, signal: AbortSignal): Promise<void> {
  if (service === PRICES.v3) return;
  await sleep(PRICE_WITHIN_MS, undefined, { signal });
  throw new PriceTimeout(`${service}/CHF did not answer within ${PRICE_WITHIN_MS} ms for ${id}`);
}

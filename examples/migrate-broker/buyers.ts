import { setTimeout as sleep } from "node:timers/promises";
import { isMessagingError } from "anybroker";
import type { Migration } from "anybroker/migration";
import type { Ledger } from "./ledger.ts";
import type { Catalog, Order } from "./shop.ts";

const PAUSE_MS = 150;

/** Customers who order again and again, at whichever instance answers, until they are told to stop. */
export class Buyers {
  readonly #catalog: Catalog;
  readonly #ledger: Ledger;
  readonly #at: () => Migration;
  #over = false;
  #buying: Promise<void>[] = [];

  constructor(catalog: Catalog, ledger: Ledger, at: () => Migration) {
    this.#catalog = catalog;
    this.#ledger = ledger;
    this.#at = at;
  }

  open(customers: number): void {
    this.#buying = Array.from({ length: customers }, (_, index) => this.#buy(`customer-${index}`));
  }

  async close(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#buying);
  }

  async #buy(customer: string): Promise<void> {
    for (let number = 0; !this.#over; number++) {
      const order: Order = { id: `${customer}.${number}`, customer, number, cents: 100 + number };
      await insist(() => this.#at().send(this.#catalog.orders, order, { id: order.id }));
      this.#ledger.ordered(order);
      if (number % 5 === 0) {
        const id = `newsletter-${order.id}`;
        await insist(() => this.#at().send(this.#catalog.newsletters, { customer }, { id }));
        this.#ledger.newsletterOrdered(id);
      }
      await sleep(PAUSE_MS * Math.random());
    }
  }
}

/** Sends again, under the same id, what was refused or may be lost: an instance was cut off, or does not know the state. */
async function insist(send: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await send();
      return;
    } catch (error) {
      if (!isMessagingError(error)) throw error;
      await sleep(20);
    }
  }
}

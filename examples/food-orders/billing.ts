import type { Topic } from "anybroker";
import { bindHandler } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import { Books } from "./books.ts";
import type { OrderPlaced } from "./orders.ts";

/** Writes an invoice for each order, once: an event may be delivered twice. */
class Billing {
  readonly #books: Books;

  constructor(books: Books) {
    this.#books = books;
  }

  handle({ orderId, cents }: OrderPlaced): void {
    if (this.#books.handled("billing", orderId)) this.#books.invoiced(cents);
  }
}

export function billing(placed: Topic<OrderPlaced>): ContainerModule {
  return new ContainerModule((binder) => {
    binder.bind(Billing).toResolvedValue((books: Books) => new Billing(books), [Books]);
    bindHandler(binder, placed, "billing", Billing);
  });
}

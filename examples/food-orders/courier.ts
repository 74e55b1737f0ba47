import type { Topic } from "anybroker";
import { bindHandler } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import { Books } from "./books.ts";
import type { OrderPlaced } from "./orders.ts";

/** Sends somebody for each order, as soon as it is placed: the food is warm when they come. */
class Courier {
  readonly #books: Books;

  constructor(books: Books) {
    this.#books = books;
  }

  handle({ orderId }: OrderPlaced): void {
    this.#books.handled("courier", orderId);
  }
}

export function courier(placed: Topic<OrderPlaced>): ContainerModule {
  return new ContainerModule((binder) => {
    binder.bind(Courier).toResolvedValue((books: Books) => new Courier(books), [Books]);
    bindHandler(binder, placed, "courier", Courier);
  });
}

import { setTimeout as sleep } from "node:timers/promises";
import type { Topic } from "anybroker";
import { bindHandler } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import { Books } from "./books.ts";
import type { OrderPlaced } from "./orders.ts";

const COOKING_MS = 5;

/** One for the whole service: its module binds it as a singleton. */
class Stove {
  async cook(_dish: string): Promise<void> {
    await sleep(COOKING_MS);
  }
}

/** Made for each event: nothing is said of its life. */
class Kitchen {
  readonly #stove: Stove;
  readonly #books: Books;

  constructor(stove: Stove, books: Books) {
    this.#stove = stove;
    this.#books = books;
  }

  async handle({ orderId, dish }: OrderPlaced): Promise<void> {
    await this.#stove.cook(dish);
    this.#books.handled("kitchen", orderId);
  }
}

/** The kitchen cooks each order, three at a time. */
export function kitchen(placed: Topic<OrderPlaced>): ContainerModule {
  return new ContainerModule((binder) => {
    binder.bind(Stove).toSelf().inSingletonScope();
    binder.bind(Kitchen).toResolvedValue((stove: Stove, books: Books) => new Kitchen(stove, books), [Stove, Books]);
    bindHandler(binder, placed, "kitchen", Kitchen, { concurrency: 3 });
  });
}

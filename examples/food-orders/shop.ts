import type { Publisher, Topic } from "anybroker";
import { PUBLISHER } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import type { OrderPlaced } from "./orders.ts";

/** Takes orders. It is given a publisher, and knows neither the broker nor who hears of an order. */
export class Shop {
  readonly #publisher: Publisher;
  readonly #placed: Topic<OrderPlaced>;

  constructor(publisher: Publisher, placed: Topic<OrderPlaced>) {
    this.#publisher = publisher;
    this.#placed = placed;
  }

  /** Resolves when the broker has the event: from then on no service misses the order. */
  async place(order: OrderPlaced): Promise<void> {
    await this.#publisher.publish(this.#placed, order, { id: order.orderId });
  }
}

export function shop(placed: Topic<OrderPlaced>): ContainerModule {
  return new ContainerModule(({ bind }) => {
    bind(Shop)
      .toResolvedValue((publisher: Publisher) => new Shop(publisher, placed), [PUBLISHER])
      .inSingletonScope();
  });
}

import { type Delivery, deadLetter, type Publisher, queue, topic } from "anybroker";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import {
  BROKER,
  bindHandler,
  DELIVERY,
  type HandlerClass,
  Handles,
  type MessageHandler,
  PUBLISHER,
  publisherOf,
} from "anybroker/inversify";
import { type Container, ContainerModule } from "inversify";
import { z } from "zod";
import { check, type Same } from "./assertions.ts";

interface Order {
  readonly id: string;
}
interface Parcel extends Order {
  readonly weight: number;
}

const orders = queue<Order>("orders");
const placed = topic<Order>("order.placed");
/** What is sent is a text, and what is handled a number. */
const amounts = queue("amounts", { schema: z.string().transform(Number) });

/** With a decorator: its body is the destination's. */
export function decorated(): void {
  @Handles(orders)
  @Handles(placed, "desk", { filter: "geo.#", concurrency: 5, broker: "fast" })
  class Desk {
    handle(order: Order): void {
      order.id;
    }
  }
  @Handles(amounts, { use: [(next) => next, Symbol("counted")] })
  class Till implements MessageHandler<number> {
    readonly publisher: Publisher;
    constructor(publisher: Publisher) {
      this.publisher = publisher;
    }
    async handle(amount: number, delivery: Delivery) {
      return delivery.attempt > amount ? deadLetter("too much") : undefined;
    }
  }
  // @ts-expect-error middleware that reads other bodies
  Handles(amounts, { use: [idempotent<Order>(memoryIdempotencyStore(), { key: ({ id }) => id })] });
  // @ts-expect-error a handler of what is sent, not of what the schema makes of it
  @Handles(amounts)
  class Other {
    handle(_: string): void {}
  }
  // @ts-expect-error a body with more than the destination's
  @Handles(orders)
  class Scale {
    handle(_: Parcel): void {}
  }
  // @ts-expect-error the same on a subscription
  @Handles(placed, "scale")
  class Weigher {
    handle(_: Parcel): void {}
  }
  // @ts-expect-error no method
  @Handles(orders)
  class Mute {}
  // @ts-expect-error false is not a way to fail
  @Handles(orders)
  class Doubtful {
    handle(_: Order): boolean {
      return false;
    }
  }
  // @ts-expect-error a topic needs a subscription
  @Handles(placed)
  class Listener {
    handle(_: Order): void {}
  }
  // @ts-expect-error a queue has none
  @Handles(orders, "desk")
  class Worker {
    handle(_: Order): void {}
  }
  // @ts-expect-error a filter is for topics
  @Handles(orders, { filter: "#" })
  class Filter {
    handle(_: Order): void {}
  }
  class Method {
    // @ts-expect-error it stands on a class
    @Handles(orders)
    handle(_: Order): void {}
  }
  for (const each of [Desk, Till, Other, Scale, Weigher, Mute, Doubtful, Listener, Worker, Filter, Method]) void each;
}

/** The same by a call, as TypeScript's own decorators do it. */
export function called(): void {
  class Desk {
    handle(_: Order): void {}
  }
  class Scale {
    handle(_: Parcel): void {}
  }
  Handles(orders)(Desk);
  // @ts-expect-error another body
  Handles(orders)(Scale);
}

/** Without a decorator. */
export function plain(container: Container): void {
  class Desk {
    handle(_: Order): void {}
  }
  class Scale {
    handle(_: Parcel): void {}
  }
  class Loose {
    handle(_: unknown): void {}
  }
  bindHandler(container, Desk);
  bindHandler(container, orders, Desk);
  bindHandler(container, orders, Loose);
  bindHandler(container, placed, "desk", Desk, { from: "earliest", timeoutMs: 5 });
  new ContainerModule((binder) => bindHandler(binder, orders, Desk, { concurrency: 5 }));
  // @ts-expect-error another body
  bindHandler(container, orders, Scale);
  // @ts-expect-error another body, on a subscription
  bindHandler(container, placed, "scale", Scale);
  // @ts-expect-error what is sent, not what the schema makes of it
  bindHandler(container, amounts, Desk);
  // @ts-expect-error a topic needs a subscription
  bindHandler(container, placed, Desk);
  // @ts-expect-error a queue has none
  bindHandler(container, orders, "desk", Desk);
  // @ts-expect-error an object is no class
  bindHandler(container, orders, new Desk());
  // @ts-expect-error it is called concurrency
  bindHandler(container, orders, Desk, { parallel: 5 });
}

/** What is injected has its type. */
export function injected(container: Container): void {
  check<Same<ReturnType<typeof publisher>, Publisher>>();
  function publisher() {
    return container.get(PUBLISHER);
  }
  const audit: Publisher = container.get(publisherOf("audit"));
  // @ts-expect-error a publisher does not start anything
  audit.start();
  container.get(BROKER).status();
  container.get(DELIVERY).attempt;
  const handler: HandlerClass<Order> = class {
    handle(_: Order): void {}
  };
  void handler;
}

import type { Delivery, Middleware } from "anybroker";
import {
  BROKER,
  bindHandler,
  brokerOf,
  DELIVERY,
  Handles,
  messagingModule,
  PUBLISHER,
  publisherOf,
  startMessaging,
} from "anybroker/inversify";
import { ContainerModule } from "inversify";
import { expect, test } from "vitest";
import { eventually } from "../../eventually.ts";
import { inProcess, type Order, orders, placed, returns } from "./orders.ts";
import { useContainer } from "./world.ts";

const world = useContainer();

test("a handler bound plainly is made for each message, with what its constructor takes", async () => {
  class Till {
    readonly #delivery: Delivery;
    constructor(delivery: Delivery) {
      this.#delivery = delivery;
    }
    handle(order: Order, delivery: Delivery): void {
      expect(this.#delivery).toBe(delivery);
      world.done.push(`${order.id} of ${this.#delivery.destination}`);
    }
  }
  world.container.bind(Till).toResolvedValue((delivery: Delivery) => new Till(delivery), [DELIVERY]);
  bindHandler(world.container, orders, Till);
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  await world.broker.send(orders, { id: "a" });
  await world.doneIs("a of orders");
  await world.broker.send(orders, { id: "b" });
  await world.doneIs("a of orders", "b of orders");
});

test("a decorated class is bound by itself, for all that it is decorated with", async () => {
  class Desk {
    handle(order: Order, { destination, subscription }: Delivery): void {
      world.done.push([order.id, destination, subscription].join(" "));
    }
  }
  // What the decorators do, written as calls.
  Handles(orders)(Desk);
  Handles(placed, "desk")(Desk);
  bindHandler(world.container, Desk);
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  await world.broker.send(orders, { id: "a" });
  await world.doneIs("a orders ");
  await world.broker.publish(placed, { id: "b" });
  await world.doneIs("a orders ", "b order.placed desk");
});

test("modules bind their handlers, services take the publisher only", async () => {
  class Shop {
    readonly publisher = world.container.get(PUBLISHER);
    place = (id: string) => this.publisher.publish(placed, { id });
  }
  const subscriber = (name: string) =>
    new ContainerModule((binder) => {
      class Subscriber {
        handle = (order: Order) => void world.done.push(`${name} ${order.id}`);
      }
      bindHandler(binder, placed, name, Subscriber);
    });
  world.container.load(messagingModule({ broker: world.broker }), subscriber("billing"), subscriber("kitchen"));
  await startMessaging(world.container);
  await new Shop().place("a");
  await eventually(() => expect(world.done.toSorted()).toEqual(["billing a", "kitchen a"]));
});

test("a handler whose construction fails for a message has failed on it, and the next one is tried", async () => {
  let fails = false;
  class Fragile {
    constructor() {
      if (fails) throw new Error("no room");
    }
    handle = (order: Order): void => void world.done.push(order.id);
  }
  const events: string[] = [];
  world.broker = inProcess({
    onEvent: (event) => {
      if (event.type === "retried") events.push(String(event.error));
    },
  });
  bindHandler(world.container, orders, Fragile);
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  fails = true;
  await world.broker.send(orders, { id: "a" });
  await eventually(() => expect(world.broker.status().consumers).toMatchObject([{ failed: 2, deadLettered: 1 }]));
  expect(events).toEqual(["Error: no room"]);
  fails = false;
  await world.broker.send(orders, { id: "b" });
  await world.doneIs("b");
});

test("a handler says its options, and middleware may be in the container", async () => {
  const note =
    (name: string): Middleware =>
    (next) =>
    (body, delivery) => {
      world.done.push(name);
      return next(body, delivery);
    };
  const COUNTED = Symbol("counted");
  class Careful {
    handle(order: Order, { attempt }: Delivery): void {
      world.done.push(`${order.id} ${attempt}`);
      if (attempt < 3) throw new Error("not yet");
    }
  }
  world.container
    .bind<Middleware>(COUNTED)
    .toDynamicValue(async () => note("inner"))
    .inSingletonScope();
  const retry = { attempts: 3, delay: { firstMs: 1, jitter: 0 } };
  bindHandler(world.container, orders, Careful, { use: [note("outer"), COUNTED], retry, concurrency: 7 });
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  expect(world.broker.status().consumers).toMatchObject([{ source: "orders", concurrency: 7 }]);
  await world.broker.send(orders, { id: "a" });
  await world.doneIs("outer", "inner", "a 1", "outer", "inner", "a 2", "outer", "inner", "a 3");
});

test("several brokers stand in one container by their names", async () => {
  const brokers = { fast: inProcess(), kept: inProcess() };
  class Relay {
    handle = async (order: Order): Promise<void> => {
      world.done.push(`fast ${order.id}`);
      await world.container.get(publisherOf("kept")).send(orders, order);
    };
  }
  class End {
    handle = (order: Order): void => void world.done.push(`kept ${order.id}`);
  }
  bindHandler(world.container, orders, Relay, { broker: "fast" });
  bindHandler(world.container, orders, End, { broker: "kept" });
  // And one without a name beside them.
  bindHandler(world.container, returns, End);
  world.container.load(messagingModule({ broker: world.broker, brokers }));
  const messaging = await startMessaging(world.container);
  expect(world.container.get(brokerOf("fast"))).toBe(brokers.fast);
  expect(world.container.get(BROKER)).toBe(world.broker);
  expect(Object.keys(messaging.status()).sort()).toEqual(["default", "fast", "kept"]);
  await world.container.get(publisherOf("fast")).send(orders, { id: "a" });
  await world.doneIs("fast a", "kept a");
  await world.container.get(PUBLISHER).send(returns, { id: "b" });
  await world.doneIs("fast a", "kept a", "kept b");
});

test("a test brings another broker in one line", async () => {
  class Desk {
    handle = (order: Order): void => void world.done.push(order.id);
  }
  const neverStarted = inProcess();
  world.container.load(messagingModule({ broker: neverStarted }));
  bindHandler(world.container, orders, Desk);
  (await world.container.rebindAsync(BROKER)).toConstantValue(world.broker);
  await startMessaging(world.container);
  await world.container.get(PUBLISHER).send(orders, { id: "a" });
  await world.doneIs("a");
  expect(neverStarted.status().state).toBe("new");
});

import type { Broker, Delivery, Middleware } from "anybroker";
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
import { Container, ContainerModule } from "inversify";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { inProcess, type Order, orders, placed, returns } from "./orders.ts";

let container: Container;
let broker: Broker;
let done: string[];

beforeEach(() => {
  container = new Container();
  broker = inProcess();
  done = [];
});

afterEach(() => container.unbindAllAsync());

const doneIs = (...expected: readonly string[]) => vi.waitFor(() => expect(done).toEqual(expected), 10_000);

test("a handler bound plainly is made for each message, with what its constructor takes", async () => {
  class Till {
    readonly #delivery: Delivery;
    constructor(delivery: Delivery) {
      this.#delivery = delivery;
    }
    handle(order: Order, delivery: Delivery): void {
      expect(this.#delivery).toBe(delivery);
      done.push(`${order.id} of ${this.#delivery.destination}`);
    }
  }
  container.bind(Till).toResolvedValue((delivery: Delivery) => new Till(delivery), [DELIVERY]);
  bindHandler(container, orders, Till);
  container.load(messagingModule({ broker }));
  await startMessaging(container);
  await broker.send(orders, { id: "a" });
  await doneIs("a of orders");
  await broker.send(orders, { id: "b" });
  await doneIs("a of orders", "b of orders");
});

test("a decorated class is bound by itself, for all that it is decorated with", async () => {
  class Desk {
    handle(order: Order, { destination, subscription }: Delivery): void {
      done.push([order.id, destination, subscription].join(" "));
    }
  }
  // What the decorators do, written as calls.
  Handles(orders)(Desk);
  Handles(placed, "desk")(Desk);
  bindHandler(container, Desk);
  container.load(messagingModule({ broker }));
  await startMessaging(container);
  await broker.send(orders, { id: "a" });
  await doneIs("a orders ");
  await broker.publish(placed, { id: "b" });
  await doneIs("a orders ", "b order.placed desk");
});

test("modules bind their handlers, services take the publisher only", async () => {
  class Shop {
    readonly publisher = container.get(PUBLISHER);
    place = (id: string) => this.publisher.publish(placed, { id });
  }
  const subscriber = (name: string) =>
    new ContainerModule((binder) => {
      class Subscriber {
        handle = (order: Order) => void done.push(`${name} ${order.id}`);
      }
      bindHandler(binder, placed, name, Subscriber);
    });
  container.load(messagingModule({ broker }), subscriber("billing"), subscriber("kitchen"));
  await startMessaging(container);
  await new Shop().place("a");
  await vi.waitFor(() => expect(done.toSorted()).toEqual(["billing a", "kitchen a"]));
});

test("a handler whose construction fails for a message has failed on it, and the next one is tried", async () => {
  let fails = false;
  class Fragile {
    constructor() {
      if (fails) throw new Error("no room");
    }
    handle = (order: Order): void => void done.push(order.id);
  }
  const events: string[] = [];
  broker = inProcess({
    onEvent: (event) => {
      if (event.type === "retried") events.push(String(event.error));
    },
  });
  bindHandler(container, orders, Fragile);
  container.load(messagingModule({ broker }));
  await startMessaging(container);
  fails = true;
  await broker.send(orders, { id: "a" });
  await vi.waitFor(() => expect(broker.status().consumers).toMatchObject([{ failed: 2, deadLettered: 1 }]));
  expect(events).toEqual(["Error: no room"]);
  fails = false;
  await broker.send(orders, { id: "b" });
  await doneIs("b");
});

test("a handler says its options, and middleware may be in the container", async () => {
  const note =
    (name: string): Middleware =>
    (next) =>
    (body, delivery) => {
      done.push(name);
      return next(body, delivery);
    };
  const COUNTED = Symbol("counted");
  class Careful {
    handle(order: Order, { attempt }: Delivery): void {
      done.push(`${order.id} ${attempt}`);
      if (attempt < 3) throw new Error("not yet");
    }
  }
  container
    .bind<Middleware>(COUNTED)
    .toDynamicValue(async () => note("inner"))
    .inSingletonScope();
  const retry = { attempts: 3, delay: { firstMs: 1, jitter: 0 } };
  bindHandler(container, orders, Careful, { use: [note("outer"), COUNTED], retry, concurrency: 7 });
  container.load(messagingModule({ broker }));
  await startMessaging(container);
  expect(broker.status().consumers).toMatchObject([{ source: "orders", concurrency: 7 }]);
  await broker.send(orders, { id: "a" });
  await doneIs("outer", "inner", "a 1", "outer", "inner", "a 2", "outer", "inner", "a 3");
});

test("several brokers stand in one container by their names", async () => {
  const brokers = { fast: inProcess(), kept: inProcess() };
  class Relay {
    handle = async (order: Order): Promise<void> => {
      done.push(`fast ${order.id}`);
      await container.get(publisherOf("kept")).send(orders, order);
    };
  }
  class End {
    handle = (order: Order): void => void done.push(`kept ${order.id}`);
  }
  bindHandler(container, orders, Relay, { broker: "fast" });
  bindHandler(container, orders, End, { broker: "kept" });
  // And one without a name beside them.
  bindHandler(container, returns, End);
  container.load(messagingModule({ broker, brokers }));
  const messaging = await startMessaging(container);
  expect(container.get(brokerOf("fast"))).toBe(brokers.fast);
  expect(container.get(BROKER)).toBe(broker);
  expect(Object.keys(messaging.status()).sort()).toEqual(["default", "fast", "kept"]);
  await container.get(publisherOf("fast")).send(orders, { id: "a" });
  await doneIs("fast a", "kept a");
  await container.get(PUBLISHER).send(returns, { id: "b" });
  await doneIs("fast a", "kept a", "kept b");
});

test("a test brings another broker in one line", async () => {
  class Desk {
    handle = (order: Order): void => void done.push(order.id);
  }
  const neverStarted = inProcess();
  container.load(messagingModule({ broker: neverStarted }));
  bindHandler(container, orders, Desk);
  (await container.rebindAsync(BROKER)).toConstantValue(broker);
  await startMessaging(container);
  await container.get(PUBLISHER).send(orders, { id: "a" });
  await doneIs("a");
  expect(neverStarted.status().state).toBe("new");
});

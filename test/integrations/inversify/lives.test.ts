import { type Broker, type Delivery, deadLetter } from "anybroker";
import { bindHandler, DELIVERY, messagingModule, startMessaging } from "anybroker/inversify";
import { ContainerModule, decorate, preDestroy } from "inversify";
import { beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../eventually.ts";
import { inProcess, type Order, orders } from "./orders.ts";
import { useContainer } from "./world.ts";

const world = useContainer();

describe("lives of handlers", () => {
  let made = 0;
  let containers = 0;
  class Counter {
    readonly number = ++made;
    handle = (): void => void world.done.push(`object ${this.number}`);
  }

  beforeEach(() => {
    made = 0;
    containers = 0;
    bindHandler(world.container, orders, Counter, { concurrency: 1 });
  });

  /** Handles two messages, and tells how many containers were made for them. */
  async function handleTwo(tryHandlers: boolean): Promise<number> {
    const perMessage = [new ContainerModule(() => void containers++)];
    world.container.load(messagingModule({ broker: world.broker, tryHandlers, perMessage }));
    await startMessaging(world.container);
    containers = 0;
    await world.broker.send(orders, { id: "a" });
    await world.broker.send(orders, { id: "b" });
    await eventually(() => expect(world.done).toHaveLength(2));
    return containers;
  }

  test("one for each message, where it is not bound", async () => {
    expect(await handleTwo(false)).toBe(2);
    expect(world.done).toEqual(["object 1", "object 2"]);
  });

  test("one for each message, and one for each trial", async () => {
    expect(await handleTwo(true)).toBe(2);
    expect(world.done).toEqual(["object 3", "object 4"]);
  });

  test.for([
    { tryHandlers: true, made: 0 },
    { tryHandlers: false, made: 2 },
  ])("one for all messages, where it is bound as a singleton; known by the trials: $tryHandlers", async (known) => {
    world.container.bind(Counter).toSelf().inSingletonScope();
    expect(await handleTwo(known.tryHandlers)).toBe(known.made);
    expect(world.done).toEqual(["object 1", "object 1"]);
  });

  test("one for each message, where it is bound as transient", async () => {
    world.container.bind(Counter).toSelf().inTransientScope();
    expect(await handleTwo(false)).toBe(2);
    expect(world.done).toEqual(["object 1", "object 2"]);
  });
});

test("handlers that wait for nothing leave the event loop its turns", async () => {
  const all = 1_000;
  let turnedAt: number | undefined;
  class Quick {
    handle(order: Order): void {
      if (world.done.length === 0) setImmediate(() => (turnedAt = world.done.length));
      world.done.push(order.id);
    }
  }
  bindHandler(world.container, orders, Quick);
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  await world.broker.sendMany(
    orders,
    Array.from({ length: all }, (_, index) => ({ body: { id: `${index}` } })),
  );
  await eventually(() => expect(world.done).toHaveLength(all));
  // No more than are made between two turns, and those that ran beside them.
  expect(turnedAt).toBeLessThan(100);
});

test("a handler that is not bound is destroyed after its message", async () => {
  class Closing {
    handle = (order: Order): void => void world.done.push(order.id);
    async close(): Promise<void> {
      world.done.push("closed");
    }
  }
  decorate(preDestroy(), Closing, "close");
  bindHandler(world.container, orders, Closing);
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  await world.doneIs("closed", "closed");
  await world.broker.send(orders, { id: "a" });
  await world.doneIs("closed", "closed", "a", "closed");
});

test("what is bound in request scope is shared within a message", async () => {
  const PART = Symbol("part");
  let made = 0;
  class Whole {
    readonly parts: readonly number[];
    constructor(...parts: readonly number[]) {
      this.parts = parts;
    }
    handle = (): void => void world.done.push(this.parts.join(" "));
  }
  world.container
    .bind<number>(PART)
    .toDynamicValue(() => ++made)
    .inRequestScope();
  world.container.bind(Whole).toResolvedValue((one: number, two: number) => new Whole(one, two), [PART, PART]);
  bindHandler(world.container, orders, Whole);
  world.container.load(messagingModule({ broker: world.broker, tryHandlers: false }));
  await startMessaging(world.container);
  await world.broker.send(orders, { id: "a" });
  await world.doneIs("1 1");
  await world.broker.send(orders, { id: "b" });
  await world.doneIs("1 1", "2 2");
});

describe("what is bound per message", () => {
  const WORK = Symbol("unit of work");
  let made = 0;
  let fails: ReadonlySet<string>;

  class Job {
    readonly #work: string;
    constructor(work: string) {
      this.#work = work;
    }
    async handle(order: Order) {
      world.done.push(`${order.id} in ${this.#work}`);
      if (fails.has("handler")) throw new Error("the handler fails");
      return order.id === "dead" ? deadLetter("as it says") : undefined;
    }
  }

  const perMessage = new ContainerModule(({ bind }) => {
    bind<string>(WORK)
      .toDynamicValue(async () => `work ${++made}`)
      .inSingletonScope()
      .onDeactivation(async (work) => {
        world.done.push(`released ${work}`);
        if (fails.has("release")) throw new Error("the release fails");
      });
  });

  beforeEach(() => {
    made = 0;
    fails = new Set();
    world.container.bind(Job).toResolvedValue((work: string) => new Job(work), [WORK]);
    bindHandler(world.container, orders, Job);
  });

  async function start(of: Broker = world.broker): Promise<void> {
    world.broker = of;
    world.container.load(messagingModule({ broker: world.broker, perMessage: [perMessage] }));
    await startMessaging(world.container);
    // By the trial.
    expect(world.done.splice(0)).toEqual(["released work 1", "released work 2"]);
    made = 1;
  }

  test("is made anew for each, and released after its handler", async () => {
    await start();
    await world.broker.send(orders, { id: "a" });
    await world.doneIs("a in work 2", "released work 2");
    await world.broker.send(orders, { id: "dead" });
    await world.doneIs("a in work 2", "released work 2", "dead in work 3", "released work 3");
    await eventually(() => expect(world.broker.status().consumers).toMatchObject([{ succeeded: 1, deadLettered: 1 }]));
  });

  test("is released when the handler fails, whose failure counts", async () => {
    const events: unknown[] = [];
    await start(inProcess({ onEvent: (event) => events.push(event) }));
    fails = new Set(["handler", "release"]);
    await world.broker.send(orders, { id: "a" }, { id: "m" });
    await world.doneIs("a in work 2", "released work 2", "a in work 3", "released work 3");
    await eventually(() =>
      expect(events).toContainEqual(
        expect.objectContaining({ type: "dead-lettered", error: new Error("the handler fails") }),
      ),
    );
    // What else failed is told beside it.
    expect(events).toContainEqual({
      type: "notice",
      error: expect.objectContaining({
        code: "refused",
        message: expect.stringMatching(/^Job, which handles queue "orders", failed on message m, .* not be released/),
        cause: new Error("the release fails"),
      }),
    });
  });

  test("is a failure of the message where it cannot be released", async () => {
    const events: unknown[] = [];
    await start(inProcess({ onEvent: (event) => events.push(event) }));
    fails = new Set(["release"]);
    await world.broker.send(orders, { id: "a" });
    await eventually(() =>
      expect(events).toContainEqual(
        expect.objectContaining({ type: "dead-lettered", error: new Error("the release fails") }),
      ),
    );
    expect(world.done).toEqual(["a in work 2", "released work 2", "a in work 3", "released work 3"]);
  });
});

test("many messages at once have a container each", async () => {
  const all = Array.from({ length: 50 }, (_, index) => `order-${index}`);
  const gate = Promise.withResolvers<void>();
  const seen = new Map<string, string>();
  let running = 0;
  class Slow {
    readonly #delivery: Delivery;
    constructor(delivery: Delivery) {
      this.#delivery = delivery;
    }
    async handle(order: Order): Promise<void> {
      running++;
      await gate.promise;
      seen.set(order.id, this.#delivery.id);
    }
  }
  world.container.bind(Slow).toResolvedValue((delivery: Delivery) => new Slow(delivery), [DELIVERY]);
  bindHandler(world.container, orders, Slow, { concurrency: all.length });
  world.container.load(messagingModule({ broker: world.broker }));
  await startMessaging(world.container);
  await world.broker.sendMany(
    orders,
    all.map((id) => ({ body: { id }, options: { id: `of-${id}` } })),
  );
  await eventually(() => expect(running).toBe(all.length));
  gate.resolve();
  await eventually(() => expect(seen.size).toBe(all.length));
  for (const id of all) expect(seen.get(id)).toBe(`of-${id}`);
});

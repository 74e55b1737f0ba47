import { type Delivery, isMessagingError, type MessagingError } from "anybroker";
import { BROKER, bindHandler, DELIVERY, Handles, messagingModule, startMessaging } from "anybroker/inversify";
import { Container } from "inversify";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { inProcess, type Order, orders, placed, returns } from "./orders.ts";

let container: Container;
let made: string[];

beforeEach(() => {
  container = new Container();
  made = [];
});

class Desk {
  handle(_: Order): void {}
}
class Till {
  handle(_: Order): void {}
}

/** What start finds, as `code: message`; fails if it starts. */
async function problems(of = container): Promise<readonly MessagingError[]> {
  const error = await startMessaging(of).then(
    () => "it started",
    (error: unknown) => error,
  );
  if (isMessagingError(error, "start-failed")) return error.problems;
  throw error;
}

const texts = async () => (await problems()).map(({ code, message }) => `${code}: ${message}`);

test("a container without the module says so", async () => {
  bindHandler(container, orders, Desk);
  expect(await texts()).toEqual(["invalid: the container has no messaging: load messagingModule({ broker }) into it"]);
});

test("a container with two modules says so", async () => {
  container.load(messagingModule({ broker: inProcess() }), messagingModule({ broker: inProcess() }));
  expect(await texts()).toEqual([
    "invalid: the container has messaging twice: load one messagingModule with all brokers, as { brokers }",
  ]);
});

test("the module of a parent is not this container's", async () => {
  container.load(messagingModule({ broker: inProcess() }));
  expect(await problems(new Container({ parent: container }))).toHaveLength(1);
});

test("a class without a decorator of its own is refused", async () => {
  Handles(orders)(Desk);
  class Heir extends Desk {}
  container.load(messagingModule({ broker: inProcess() }));
  bindHandler(container, Heir);
  expect(await texts()).toEqual([
    "invalid: Heir was bound without a destination: put @Handles(…) on the class itself, or pass the destination: bindHandler(binder, queue, Heir)",
  ]);
});

test.for([
  { what: "a queue", bind: (handler: typeof Desk) => bindHandler(container, orders, handler), where: 'queue "orders"' },
  {
    what: "a subscription",
    bind: (handler: typeof Desk) => bindHandler(container, placed, "desk", handler),
    where: 'subscription "desk" of topic "order.placed"',
  },
])("a second handler for $what is refused", async ({ bind, where }) => {
  container.load(messagingModule({ broker: inProcess() }));
  bind(Desk);
  bind(Till);
  bind(Till);
  const rest =
    "in one container, so each would get a part of the messages. Use one subscription of a topic for each; for parallel work raise concurrency";
  expect(await texts()).toEqual([
    `conflict: Desk and Till both handle ${where} ${rest}`,
    `conflict: Desk and Till both handle ${where} ${rest}`,
  ]);
});

test("handlers of one queue on two brokers, and of two subscriptions, are no second ones", async () => {
  container.load(messagingModule({ broker: inProcess(), brokers: { other: inProcess() } }));
  bindHandler(container, orders, Desk);
  bindHandler(container, orders, Desk, { broker: "other" });
  bindHandler(container, placed, "desk", Desk);
  bindHandler(container, placed, "till", Till);
  const messaging = await startMessaging(container);
  expect(messaging.status().default?.consumers).toHaveLength(3);
  await messaging.stop();
});

test("a broker that is not there is said by its name", async () => {
  container.load(messagingModule({ brokers: { fast: inProcess() } }));
  bindHandler(container, orders, Desk, { broker: "slow" });
  bindHandler(container, returns, Desk);
  expect(await texts()).toEqual([
    'invalid: Desk, which handles queue "orders": the container has no broker "slow"; pass messagingModule { brokers: { slow: … } }',
    'invalid: Desk, which handles queue "returns": the container has no unnamed broker; pass messagingModule { broker }, or set broker in the handler\'s options',
  ]);
});

describe("a handler that cannot be made", () => {
  test("is refused with the reason as its cause", async () => {
    class Broken {
      constructor() {
        throw new TypeError("no such file");
      }
      handle(_: Order): void {}
    }
    container.load(messagingModule({ broker: inProcess() }));
    bindHandler(container, orders, Broken);
    const [problem] = await problems();
    expect(problem).toMatchObject({ code: "invalid", cause: new TypeError("no such file") });
    expect(problem?.message).toBe(
      'Broken, which handles queue "orders", could not be made and released for a message; see the cause, and bind what is missing',
    );
  });

  test("is refused where something it asks for is not bound", async () => {
    class Asking {
      readonly delivery: unknown;
      constructor(ledger: unknown) {
        this.delivery = ledger;
      }
      handle(_: Order): void {}
    }
    container.load(messagingModule({ broker: inProcess() }));
    container.bind(Asking).toResolvedValue((ledger: unknown) => new Asking(ledger), [Symbol("ledger")]);
    bindHandler(container, orders, Asking);
    const [problem] = await problems();
    expect(String(problem?.cause)).toContain("ledger");
  });

  test("is refused where it has no method", async () => {
    class Mute {}
    container.load(messagingModule({ broker: inProcess() }));
    // @ts-expect-error as from a program without types
    bindHandler(container, orders, Mute);
    expect(await texts()).toEqual([
      'invalid: Mute, which handles queue "orders", has no method handle(body, delivery)',
    ]);
  });
});

test("what the getter of a method throws is found, and the consumers of other handlers end", async () => {
  let isReady = false;
  class Late {
    get handle(): (order: Order) => void {
      if (isReady) return () => {};
      throw new Error("not yet");
    }
  }
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  bindHandler(container, orders, Desk);
  bindHandler(container, returns, Late);
  expect(await problems()).toMatchObject([{ code: "invalid", cause: { message: "not yet" } }]);
  expect(broker.status().consumers.map(({ state }) => state)).toEqual(["stopped", "stopped"]);
  isReady = true;
  const messaging = await startMessaging(container);
  await messaging.stop();
});

test("a handler that is never made is refused after a while", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  container.load(messagingModule({ broker: inProcess() }));
  container.bind(Desk).toDynamicValue(() => new Promise<Desk>(() => {}));
  bindHandler(container, orders, Desk);
  const found = problems();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(await found).toMatchObject([{ code: "invalid", cause: { message: "it took longer than 30000 ms" } }]);
});

test("each handler is made and released at start, with a delivery of its source, and nothing is handled", async () => {
  class Tried {
    constructor({ destination, subscription, attempt, headers }: Delivery) {
      made.push(`${destination} ${subscription} ${attempt} ${Object.keys(headers).length}`);
    }
    handle(_: Order): void {
      made.push("handled");
    }
  }
  const broker = inProcess();
  container.bind(Tried).toResolvedValue((delivery: Delivery) => new Tried(delivery), [DELIVERY]);
  container.load(messagingModule({ broker }));
  bindHandler(container, placed, "desk", Tried);
  const messaging = await startMessaging(container);
  // Twice, since it asks for the delivery.
  expect(made).toEqual(["order.placed desk 1 0", "order.placed desk 1 0"]);
  expect(broker.status().consumers).toMatchObject([{ started: 0 }]);
  await messaging.stop();
});

test("a singleton that injects the delivery is refused, each time", async () => {
  const LOGGER = Symbol("logger");
  class Noting {
    readonly id: string;
    constructor(id: string) {
      this.id = id;
    }
    handle(_: Order): void {}
  }
  container
    .bind<string>(LOGGER)
    .toResolvedValue(({ id }: Delivery) => id, [DELIVERY])
    .inSingletonScope();
  container.bind(Noting).toResolvedValue((id: string) => new Noting(id), [LOGGER]);
  container.load(messagingModule({ broker: inProcess() }));
  bindHandler(container, orders, Noting);
  const text =
    'invalid: Noting, which handles queue "orders": a singleton that it depends on injects the delivery, and would keep the first one for all messages. Bind it in transient or request scope, or with perMessage';
  expect(await texts()).toEqual([text]);
  expect(await texts()).toEqual([text]);
});

test("everything wrong is said at once, and nothing is connected", async () => {
  class Broken {
    constructor() {
      throw new Error("broken");
    }
    handle(_: Order): void {}
  }
  class Bare {
    handle(_: Order): void {}
  }
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  bindHandler(container, Bare);
  bindHandler(container, orders, Desk, { concurrency: 0 });
  bindHandler(container, orders, Till);
  bindHandler(container, returns, Broken, { use: [Symbol("missing")] });
  bindHandler(container, placed, "desk", Desk, { broker: "none" });
  expect((await texts()).map((text) => text.slice(0, 60))).toEqual([
    "invalid: Bare was bound without a destination: put @Handles(",
    'conflict: Desk and Till both handle queue "orders" in one co',
    'invalid: Desk, which handles subscription "desk" of topic "o',
    'invalid: consume(queue "orders") { concurrency } takes an in',
    'invalid: Broken, which handles queue "returns", could not be',
    'invalid: Broken, which handles queue "returns", uses Symbol(',
  ]);
  expect(broker.status().state).toBe("new");
});

test("a broker that cannot start is reported with the others, and none is left open", async () => {
  const good = inProcess();
  const brokers = { good, one: inProcess({ require: ["durable"] }), two: inProcess({ require: ["rewind"] }) };
  container.load(messagingModule({ brokers }));
  bindHandler(container, orders, Desk, { broker: "good" });
  expect((await problems()).map(({ code }) => code)).toEqual(["unsupported", "unsupported"]);
  for (const broker of Object.values(brokers))
    expect(broker.status()).toMatchObject({ state: "stopped", connected: false });
});

test("what was wrong may be mended, and the next start takes each handler once", async () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  const LEDGER = Symbol("ledger");
  class Desk {
    handle(order: Order): void {
      made.push(order.id);
    }
  }
  container.bind(Desk).toResolvedValue((_: unknown) => new Desk(), [LEDGER]);
  bindHandler(container, orders, Desk);
  expect(await problems()).toHaveLength(1);
  container.bind(LEDGER).toConstantValue({});
  const messaging = await startMessaging(container);
  await broker.send(orders, { id: "a" });
  await expect.poll(() => broker.status().consumers).toMatchObject([{ succeeded: 1 }]);
  expect(made).toEqual(["a"]);
  await messaging.stop();
});

test.for([
  ["no options", undefined, "messagingModule takes its options as an object, or none"],
  ["an unknown option", { broker: inProcess(), brokerz: {} }, 'messagingModule has no option "brokerz"'],
  ["no broker", {}, "messagingModule takes { broker } or { brokers }, made by createBroker()"],
  [
    "an adapter for a broker",
    { broker: {} },
    "messagingModule takes { broker } or { brokers }, made by createBroker()",
  ],
  ["a name that is none", { brokers: { "a b": inProcess() } }, '"a b" is no name for a broker'],
  ["the name of the one without", { brokers: { default: inProcess() } }, "pass it as { broker }"],
  ["modules that are none", { broker: inProcess(), perMessage: [{}] }, "takes an array of ContainerModules"],
  [
    "a deadline that is none",
    { broker: inProcess(), stopTimeoutMs: -1 },
    "{ stopTimeoutMs } takes an integer from 0 up",
  ],
  ["a trial that is neither", { broker: inProcess(), tryHandlers: 1 }, "{ tryHandlers } takes true or false"],
] as const)("%s is refused", ([, options, text]) => {
  expect(() => messagingModule(options as never)).toThrow(text);
});

test("a broker object under two names is refused", () => {
  const broker = inProcess();
  expect(() => messagingModule({ broker, brokers: { again: broker } })).toThrow("each broker object once");
});

test("middleware that is no list, or nothing of the kind, is refused", async () => {
  const NUMBER = Symbol("number");
  container.load(messagingModule({ broker: inProcess() }));
  container.bind(NUMBER).toConstantValue(5);
  bindHandler(container, orders, Desk, { use: "idempotent" } as never);
  bindHandler(container, returns, Desk, { use: [NUMBER] });
  expect(await texts()).toEqual([
    'invalid: Desk, which handles queue "orders": use takes an array of middleware or symbols',
    'invalid: consume(queue "returns") { use } takes a list of middleware: functions from handler to handler',
  ]);
});

test("the options of a handler that do not exist are refused", async () => {
  container.load(messagingModule({ broker: inProcess() }));
  bindHandler(container, orders, Desk, { concurency: 5 } as never);
  expect(await texts()).toEqual([expect.stringContaining('consume(queue "orders") has no option "concurency"')]);
});

test.for([
  ["a topic without a subscription", () => bindHandler(container, placed as never, Desk as never)],
  ["something that is no destination", () => bindHandler(container, {} as never, Desk as never)],
  ["no class", () => bindHandler(container, orders, undefined as never)],
  ["a decorator without a subscription", () => Handles(placed as never)],
  ["a decorated method", () => Handles(orders)(Desk.prototype as never, "handle" as never)],
  ["a field by ECMAScript's decorators", () => Handles(orders)(Desk, { kind: "field" } as never)],
] as const)("%s is refused at once", ([, wrong]) => {
  expect(wrong).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("the brokers are injected before they are started", () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  expect(container.get(BROKER)).toBe(broker);
  expect(broker.status().state).toBe("new");
});

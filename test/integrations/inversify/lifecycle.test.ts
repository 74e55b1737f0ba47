import type { Delivery } from "anybroker";
import { bindHandler, MESSAGING, messagingModule, PUBLISHER, publisherOf, startMessaging } from "anybroker/inversify";
import { memorySpace } from "anybroker/memory";
import { Container } from "inversify";
import { beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../eventually.ts";
import { inProcess, type Order, orders, placed, returns } from "./orders.ts";

let container: Container;
let done: string[];

beforeEach(() => {
  container = new Container();
  done = [];
});

const doneIs = (...expected: readonly string[]) => eventually(() => expect(done).toEqual(expected));

class Desk {
  handle = (order: Order): void => void done.push(order.id);
}

/** Begins when it is given a message, and ends when it is let go. */
function slowHandler() {
  const begun = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  class Slow {
    async handle(order: Order, { signal }: Delivery): Promise<void> {
      begun.resolve();
      const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      await Promise.race([go.promise, aborted]);
      await container.get(publisherOf("other")).send(returns, order);
      done.push(order.id);
    }
  }
  return { Slow, begun: begun.promise, go: go.resolve };
}

test("it stops and starts again, and handles what was sent meanwhile", async () => {
  const space = memorySpace();
  const broker = inProcess({}, space);
  const other = inProcess({}, space);
  await other.start();
  container.load(messagingModule({ broker }));
  bindHandler(container, orders, Desk);
  const messaging = await startMessaging(container);
  for (const id of ["a", "b", "c"]) {
    await other.send(orders, { id });
    await eventually(() => expect(done.at(-1)).toBe(id));
    await messaging.stop();
    expect(broker.status()).toMatchObject({ state: "stopped", connected: false });
    await other.send(orders, { id: `after ${id}` });
    expect(done.at(-1)).toBe(id);
    await messaging.start();
    await eventually(() => expect(done.at(-1)).toBe(`after ${id}`));
  }
  expect(done).toEqual(["a", "after a", "b", "after b", "c", "after c"]);
  // One for each handler, however often it was started.
  expect(broker.status().consumers).toHaveLength(1);
  await Promise.all([messaging.stop(), other.stop()]);
});

test("second calls of start and stop do nothing, also at once", async () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  bindHandler(container, orders, Desk);
  const [messaging, again] = await Promise.all([startMessaging(container), startMessaging(container)]);
  expect(again).toBe(messaging);
  await messaging.start();
  expect(broker.status().consumers).toHaveLength(1);
  await broker.send(orders, { id: "a" });
  await doneIs("a");
  await Promise.all([messaging.stop(), messaging.stop()]);
  await messaging.stop();
  expect(broker.status().state).toBe("stopped");
});

test("a handler that is bound after the start is said at the next, and taken after a stop", async () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  const messaging = await startMessaging(container);
  bindHandler(container, orders, Desk);
  await expect(messaging.start()).rejects.toMatchObject({
    code: "start-failed",
    problems: [{ code: "invalid", message: expect.stringMatching(/^handlers were bound after messaging was started/) }],
  });
  expect(broker.status().state).toBe("started");
  await messaging.stop();
  await messaging.start();
  await broker.send(orders, { id: "a" });
  await doneIs("a");
  await messaging.stop();
});

test("the status is that of the brokers, and asks for a start first", async () => {
  container.load(messagingModule({ broker: inProcess(), brokers: { other: inProcess() } }));
  expect(() => container.get(MESSAGING).status()).toThrow("call startMessaging(container) first");
  await expect(container.get(MESSAGING).start()).rejects.toThrow("call startMessaging(container) first");
  const messaging = await startMessaging(container);
  expect(container.get(MESSAGING)).toBe(messaging);
  expect(messaging.status()).toMatchObject({ default: { state: "started" }, other: { state: "started" } });
  await container.unbindAllAsync();
  expect(messaging.status()).toMatchObject({ default: { state: "stopped" }, other: { state: "stopped" } });
});

test("wrong options of stop are refused", async () => {
  container.load(messagingModule({ broker: inProcess() }));
  const messaging = await startMessaging(container);
  expect(() => messaging.stop({ timeout: 5 } as never)).toThrow('stop has no option "timeout"');
  expect(() => messaging.stop({ timeoutMs: -1 })).toThrow("stop { timeoutMs } takes an integer");
  await messaging.stop();
});

test("a stop right behind a start waits for it, and ends it", async () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  const starting = startMessaging(container);
  await container.unbindAllAsync();
  await starting;
  expect(broker.status().state).toBe("stopped");
});

test("a container that is unbound before it was started has nothing to stop", async () => {
  const broker = inProcess();
  container.load(messagingModule({ broker }));
  await container.unbindAllAsync();
  expect(broker.status().state).toBe("new");
});

describe("handlers that run", () => {
  test.for(["unbindAllAsync", "unloadAsync", "stop"] as const)(
    "may finish and publish to any broker before %s closes one",
    async (how) => {
      const other = inProcess();
      const broker = inProcess();
      const { Slow, begun, go } = slowHandler();
      const module = messagingModule({ broker, brokers: { other } });
      container.load(module);
      bindHandler(container, orders, Slow);
      // Its own handlers end at once.
      bindHandler(container, placed, "desk", Desk, { broker: "other" });
      const messaging = await startMessaging(container);
      await broker.send(orders, { id: "a" });
      await begun;
      const stops = {
        unbindAllAsync: () => container.unbindAllAsync(),
        unloadAsync: () => container.unloadAsync(module),
      };
      const stopping = how === "stop" ? messaging.stop() : stops[how]();
      await eventually(() => expect(other.status().consumers).toMatchObject([{ state: "stopped" }]));
      expect(other.status().state).toBe("started");
      go();
      await stopping;
      expect(done).toEqual(["a"]);
      expect([broker, other].map((each) => each.status().state)).toEqual(["stopped", "stopped"]);
    },
  );

  test.for(["unbindAllAsync", "stop"] as const)(
    "past the deadline of the module are aborted by %s, and their messages given back",
    async (how) => {
      const space = memorySpace();
      const broker = inProcess({}, space);
      const { Slow, begun } = slowHandler();
      container.load(messagingModule({ broker, brokers: { other: inProcess() }, stopTimeoutMs: 1 }));
      bindHandler(container, orders, Slow);
      const messaging = await startMessaging(container);
      await broker.send(orders, { id: "a" });
      await begun;
      if (how === "stop") await messaging.stop();
      await container.unbindAllAsync();
      expect(done).toEqual([]);
      container.load(messagingModule({ broker: inProcess({}, space) }));
      bindHandler(container, orders, Desk);
      await startMessaging(container);
      await doneIs("a");
      await container.unbindAllAsync();
    },
  );
});

test("a stop with a shorter timeout shortens the one in progress", async () => {
  const broker = inProcess();
  const { Slow, begun } = slowHandler();
  container.load(messagingModule({ broker, brokers: { other: inProcess() }, stopTimeoutMs: 3_600_000 }));
  bindHandler(container, orders, Slow);
  const messaging = await startMessaging(container);
  await broker.send(orders, { id: "a" });
  await begun;
  const stopping = messaging.stop();
  await eventually(() => expect(broker.status().consumers).toMatchObject([{ state: "stopping" }]));
  await Promise.all([messaging.stop({ timeoutMs: 1 }), stopping]);
  expect(broker.status().state).toBe("stopped");
});

test("no handler is given a message before every broker stands", async () => {
  const space = memorySpace();
  const before = inProcess({}, space);
  await before.start();
  await before.send(orders, { id: "waits" });
  const slow = inProcess();
  const opening = Promise.withResolvers<void>();
  const start = slow.start.bind(slow);
  slow.start = async () => {
    await opening.promise;
    await start();
  };
  const broker = inProcess({}, space);
  class Forward {
    async handle(order: Order): Promise<void> {
      await container.get(publisherOf("slow")).send(returns, order);
      done.push(order.id);
    }
  }
  container.load(messagingModule({ broker, brokers: { slow } }));
  bindHandler(container, orders, Forward);
  const starting = startMessaging(container);
  await eventually(() => expect(broker.status().state).toBe("started"));
  expect(broker.status().consumers).toMatchObject([{ state: "paused", started: 0 }]);
  opening.resolve();
  await starting;
  await doneIs("waits");
  expect(broker.status().consumers).toMatchObject([{ failed: 0 }]);
  await Promise.all([container.unbindAllAsync(), before.stop()]);
});

test("a module is loaded again after the container was emptied", async () => {
  const broker = inProcess();
  const module = messagingModule({ broker });
  for (const id of ["a", "b"]) {
    container.load(module);
    bindHandler(container, orders, Desk);
    await startMessaging(container);
    await container.get(PUBLISHER).send(orders, { id });
    await eventually(() => expect(done.at(-1)).toBe(id));
    await container.unbindAllAsync();
    expect(broker.status().state).toBe("stopped");
  }
  expect(done).toEqual(["a", "b"]);
});

import { connect } from "amqplib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue, topic } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

interface Order {
  readonly n: number;
}

/** Enters at level 5, of which the wait queue holds a message for 1,024 ms, and passes levels 4, 3, 2, 1 and 0. */
const DELAY_MS = 32 * 0b111111;
const ENTRY = "anybroker.delay.5";

describeRabbitMQ("what an operator or a policy removes from RabbitMQ while it is used", (broker) => {
  // One for each test: the wait queues are there once per virtual host.
  const places: VirtualHost[] = [];
  let shared = false;
  beforeAll(() => {
    shared = broker.controls === undefined;
  });
  afterAll(() => Promise.all(places.map((place) => place.remove())));

  async function newPlace(): Promise<VirtualHost> {
    const place = await broker.newVirtualHost();
    places.push(place);
    return place;
  }

  async function remove(place: VirtualHost, kind: "queue" | "exchange", name: string): Promise<void> {
    const connection = await connect(place.url);
    const channel = await connection.createChannel();
    if (kind === "queue") await channel.deleteQueue(name);
    else await channel.deleteExchange(name);
    await connection.close();
  }

  function running(place: VirtualHost, options: Partial<Parameters<typeof createBroker>[1]> = {}) {
    const events: BrokerEvent[] = [];
    const app = createBroker(rabbitmq({ url: place.url }), { ...options, onEvent: (event) => events.push(event) });
    const notices = () => events.flatMap((event) => (event.type === "notice" ? [event.error.message] : []));
    return { app, events, notices };
  }

  test("a delayed message makes its vanished wait queue again, and says so by its name", async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const orders = queue<Order>("orders");
    const placed = topic<Order>("placed");
    const { app, notices } = running(place);
    const handled: string[] = [];
    app.consume(orders, ({ n }) => void handled.push(`order ${n}`));
    app.subscribe(placed, "billing", ({ n }) => void handled.push(`event ${n}`));
    await app.start();
    await remove(place, "queue", ENTRY);
    await app.send(orders, { n: 1 }, { delayMs: DELAY_MS });
    await until("the order", 60_000, () => expect(handled).toEqual(["order 1"]));
    await remove(place, "queue", ENTRY);
    await app.publish(placed, { n: 2 }, { delayMs: DELAY_MS });
    await until("the event", 60_000, () => expect(handled).toEqual(["order 1", "event 2"]));
    const told = notices().filter((text) => text.includes(`"${ENTRY}" was deleted`));
    expect(told).toHaveLength(2);
    await app.stop();
  });

  test("a retry goes through where its wait queue was removed", async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const orders = queue<Order>("orders");
    const { app, events } = running(place);
    const attempts: number[] = [];
    app.consume(
      orders,
      async (_, { attempt }) => {
        attempts.push(attempt);
        if (attempt === 1) {
          await remove(place, "queue", ENTRY);
          throw new Error("not yet");
        }
      },
      { retry: { delay: { firstMs: DELAY_MS, jitter: 0 } } },
    );
    await app.start();
    await app.send(orders, { n: 1 });
    await until("the second attempt", 60_000, () => expect(attempts).toEqual([1, 2]));
    expect(events.filter(({ type }) => type === "copy-failed")).toEqual([]);
    await app.stop();
  });

  test("a wait queue further down, and what stands behind all, is noticed at the next delayed message", {
    timeout: 600_000,
  }, async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const orders = queue<Order>("orders");
    const { app, notices } = running(place);
    const handled: number[] = [];
    app.consume(orders, ({ n }) => void handled.push(n));
    await app.start();
    await remove(place, "queue", "anybroker.delay.2");
    await remove(place, "exchange", "anybroker.delay.1");
    await remove(place, "exchange", "anybroker.delay.deliver");
    await remove(place, "queue", "anybroker.delay.undelivered");
    await app.send(orders, { n: 1 }, { delayMs: DELAY_MS });
    // Where it expired before all was made again, RabbitMQ tries to move it on every three minutes.
    await until("it", 500_000, () => expect(handled).toEqual([1]));
    for (const name of ["2", "1", "deliver", "undelivered"]) {
      expect(notices()).toContainEqual(
        expect.stringMatching(new RegExp(`"anybroker\\.delay\\.${name}".* was deleted`)),
      );
    }
    await app.stop();
  });

  test("who may not make a wait queue is told its name, and not that of the destination", async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const maker = await openAdapter({ url: place.url });
    expect(await maker.adapter.declare(topology({ queues: [workQueue("orders")] }))).toEqual([]);
    await maker.adapter.close();
    await remove(place, "queue", ENTRY);
    const { adapter, send } = await openAdapter({ url: place.url });
    const [result] = await send({ kind: "queue", name: "orders" }, message("late", { delayMs: DELAY_MS }));
    expect(codeOf(result)).toBe("not-found");
    expect(result).toMatchObject({ error: { message: expect.stringContaining(`queue "${ENTRY}"`) } });
    await adapter.close();
  });

  test("so is who finds it there, but unbound", async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const maker = await openAdapter({ url: place.url });
    const wanted = topology({ queues: [workQueue("orders")] });
    expect(await maker.adapter.declare(wanted)).toEqual([]);
    await remove(place, "queue", ENTRY);
    const connection = await connect(place.url);
    const channel = await connection.createChannel();
    await channel.assertQueue(ENTRY, { durable: true, arguments: { "x-queue-type": "quorum" } });
    await connection.close();
    const { adapter, send } = await openAdapter({ url: place.url });
    const [result] = await send({ kind: "queue", name: "orders" }, message("late", { delayMs: DELAY_MS }));
    expect(result).toMatchObject({ error: { code: "not-found", message: expect.stringMatching(/does not route to/) } });
    await Promise.all([adapter.close(), maker.adapter.close()]);
  });

  test("dead letters, the quarantine log and the exchange of a topic are made again, by name", async () => {
    const place = await newPlace();
    const { namePrefix } = place;
    const orders = queue<Order>(`${namePrefix}orders`);
    const placed = topic<Order>(`${namePrefix}placed`);
    const { app, notices } = running(place);
    const handled: number[] = [];
    app.consume(
      orders,
      ({ n }) => {
        handled.push(n);
        throw new Error("never");
      },
      { retry: { attempts: 1 } },
    );
    app.subscribe(placed, "billing", ({ n }) => void handled.push(n));
    await app.start();
    await remove(place, "queue", `${orders.name}.dlq`);
    await app.send(orders, { n: 1 });
    const { adapter } = await openAdapter({ url: place.url });
    const deadLetters = { kind: "dead-letters", of: { kind: "queue", name: orders.name } } as const;
    await until("the dead letter", 60_000, async () => expect((await adapter.depth(deadLetters)).ready).toBe(1));
    await remove(place, "queue", `${orders.name}.quarantine`);
    // Nobody consumes it: it is missed when everything is looked at, which is once a minute or so.
    await until("the log", 180_000, async () =>
      expect((await adapter.depth({ kind: "quarantine", of: deadLetters.of })).ready).toBe(0),
    );
    await remove(place, "exchange", placed.name);
    // Where the exchange was found missing in the same moment by another look, its bindings may come after a second try.
    await app.publish(placed, { n: 2 }).catch(async (error: unknown) => {
      expect(error).toMatchObject({ code: "unconfirmed", cause: { code: "unroutable" } });
      await until("the bindings", 60_000, () => app.publish(placed, { n: 2 }));
    });
    await until("the event", 60_000, () => expect(handled).toEqual([1, 2]));
    for (const name of [`${orders.name}.dlq`, `${orders.name}.quarantine`, placed.name]) {
      await until("the notice", 60_000, () =>
        expect(notices()).toContainEqual(expect.stringContaining(`"${name}" was deleted`)),
      );
    }
    await adapter.close();
    await app.stop();
  });

  test("wait queues that were removed while no process ran are told at the next start", async (context) => {
    if (shared) return context.skip("NOT RUN: the wait queues of a RabbitMQ given by URL may be others' too");
    const place = await newPlace();
    const destinations = [queue<Order>("orders")];
    // On an empty server, whose topology several make at once, nothing was removed.
    const first = [running(place, { destinations }), running(place, { destinations })];
    await Promise.all(first.map(({ app }) => app.start()));
    await Promise.all(first.map(({ app }) => app.stop()));
    for (const level of [3, 4]) await remove(place, "queue", `anybroker.delay.${level}`);
    const next = running(place, { destinations });
    await next.app.start();
    await next.app.stop();
    expect(next.notices()).toEqual([
      expect.stringMatching(/wait queues "anybroker\.delay\.3", "anybroker\.delay\.4" were deleted/),
    ]);
    expect(first.map(({ notices }) => notices())).toEqual([[], []]);
  });

  test("what was removed while the connection was away is told when it is back", async (context) => {
    if (broker.rabbitmqctl === undefined) {
      return context.skip("NOT RUN: RabbitMQ was given by URL, so rabbitmqctl cannot be run");
    }
    const place = await newPlace();
    const { app, events, notices } = running(place, { destinations: [queue<Order>("orders")] });
    await app.start();
    await remove(place, "queue", ENTRY);
    const vhost = decodeURIComponent(new URL(place.url).pathname.slice(1));
    await broker.rabbitmqctl("close_all_connections", "--vhost", vhost, "a test");
    await until("the way back", 60_000, () => expect(events.map(({ type }) => type)).toContain("up"));
    expect(notices()).toContainEqual(expect.stringContaining(`"${ENTRY}" was deleted`));
    await app.stop();
  });
});

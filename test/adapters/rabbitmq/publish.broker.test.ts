import { connect } from "amqplib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { UNDELIVERED_QUEUE } from "../../../adapters/rabbitmq/delay-levels.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

describeRabbitMQ("publishing to RabbitMQ", (broker) => {
  let place: VirtualHost;
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let orders: { kind: "queue"; name: string };
  let placed: { kind: "topic"; name: string };

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    session = await openAdapter({ url: place.url });
    orders = { kind: "queue", name: `${place.namePrefix}orders` };
    placed = { kind: "topic", name: `${place.namePrefix}order.placed` };
    const wanted = topology({
      queues: [workQueue(orders.name)],
      subscriptions: [subscriptionOf(placed.name, "us", "geo.us.*")],
    });
    expect(await session.adapter.declare(wanted)).toEqual([]);
  });
  afterAll(async () => {
    await session?.adapter.close();
    await place?.remove();
  });

  async function undelivered(): Promise<number> {
    const connection = await connect(place.url);
    try {
      const channel = await connection.createChannel();
      return (await channel.checkQueue(UNDELIVERED_QUEUE)).messageCount;
    } finally {
      await connection.close();
    }
  }

  test("a missing exchange is not found, and takes no other publish with it", async () => {
    const nowhere = { kind: "topic", name: `${place.namePrefix}nowhere` } as const;
    const ids = Array.from({ length: 50 }, (_, index) => `beside-${index}`);
    const [beside, missing] = await Promise.all([
      session.send(orders, ...ids.map((id) => message(id))),
      session.send(nowhere, message("lost"), message("lost-too")),
    ]);
    expect(new Set(beside.map(codeOf))).toEqual(new Set(["confirmed"]));
    expect(missing.map(codeOf)).toEqual(["not-found", "not-found"]);
    await expect(session.adapter.depth(nowhere)).rejects.toMatchObject({ code: "not-found" });
  });

  test("the client's own connections are within reach while they stand", async () => {
    const { publishing, consuming } = session.adapter.connections;
    expect(publishing).not.toBe(consuming);
    const channel = await consuming?.createChannel();
    expect((await channel?.checkQueue(orders.name))?.queue).toBe(orders.name);
    await channel?.close();
    const other = await openAdapter({ url: place.url });
    await other.adapter.close();
    expect(other.adapter.connections).toEqual({ publishing: undefined, consuming: undefined });
  });

  test("a missing queue is not found, with and without a delay", async () => {
    const nowhere = { kind: "queue", name: `${place.namePrefix}nowhere` } as const;
    const results = await session.send(nowhere, message("now"), message("later", { delayMs: 50 }));
    expect(results.map(codeOf)).toEqual(["not-found", "not-found"]);
  });

  test("of a batch only the unroutable events are rejected", async () => {
    const results = await session.send(
      placed,
      message("a", { routingKey: "geo.us.ny" }),
      message("b", { routingKey: "geo.fr.paris" }),
      message("c"),
      message("d", { routingKey: "geo.us.la" }),
    );
    expect(results.map(codeOf)).toEqual(["confirmed", "unroutable", "unroutable", "confirmed"]);
  });

  test("the same id in flight several times: each has its own answer", async () => {
    const results = await session.send(
      placed,
      message("same", { routingKey: "geo.us.ny" }),
      message("same", { routingKey: "geo.fr.paris" }),
      message("same", { routingKey: "geo.us.la" }),
      message("same", { routingKey: "geo.it.rome" }),
    );
    expect(results.map(codeOf)).toEqual(["confirmed", "unroutable", "confirmed", "unroutable"]);
  });

  test("what AMQP cannot carry is rejected alone, before it is written", async () => {
    const results = await session.send(
      orders,
      message("good-1"),
      message("i".repeat(300)),
      message("bad-headers", { headers: { big: "x".repeat(70_000) } }),
      message("bad-name", { headers: { ["n".repeat(300)]: "" } }),
      message("good-2"),
    );
    expect(results.map(codeOf)).toEqual(["confirmed", "invalid", "too-large", "too-large", "confirmed"]);
  });

  test("an exchange deleted behind our back is made again, and nothing is reported that is not so", async () => {
    const connection = await connect(place.url);
    const channel = await connection.createChannel();
    await channel.deleteExchange(placed.name);
    await connection.close();
    await until("a confirmed event", 60_000, async () => {
      const [result] = await session.send(placed, message("again", { routingKey: "geo.us.ny" }));
      expect(codeOf(result)).toBe("confirmed");
    });
    const [result] = await session.send(orders, message("beside"));
    expect(codeOf(result)).toBe("confirmed");
  });

  test("delays through several levels come out at the right place, never early, and are counted as no death", async () => {
    const strays = await undelivered();
    const { kept, sink } = keepingSink();
    const events = keepingSink();
    const arrivals = new Map<string, number>();
    const us = { kind: "subscription", topic: placed.name, name: "us" } as const;
    const timed = {
      ...sink,
      deliver: (batch: Parameters<typeof sink.deliver>[0]) => {
        for (const { id } of batch) arrivals.set(id, performance.now());
        sink.deliver(batch);
      },
    };
    const drained = await session.adapter.receive(orders, { prefetch: 1_000, ordered: false }, timed);
    const subscribed = await session.adapter.receive(us, { prefetch: 1_000, ordered: false }, events.sink);
    const delays = [1, 31, 32, 33, 64, 95, 500, 992, 1_001];
    const sent = new Map<string, { at: number; delayMs: number }>();
    for (const delayMs of delays) {
      sent.set(`delay-${delayMs}`, { at: performance.now(), delayMs });
      const results = await session.send(orders, message(`delay-${delayMs}`, { delayMs, routingKey: "kept.along" }));
      expect(results.map(codeOf)).toEqual(["confirmed"]);
    }
    await session.send(placed, message("event", { delayMs: 100, routingKey: "geo.us.sf" }));
    const results = await session.send(placed, message("stray", { delayMs: 40, routingKey: "geo.fr.lyon" }));
    expect(results.map(codeOf)).toEqual(["confirmed"]);
    await until("all delayed messages", 60_000, () => {
      const ids = kept.map(({ id }) => id);
      for (const id of sent.keys()) expect(ids).toContain(id);
      expect(events.kept.map(({ id }) => id)).toContain("event");
    });
    for (const [id, { at, delayMs }] of sent) expect((arrivals.get(id) ?? 0) - at).toBeGreaterThanOrEqual(delayMs);
    for (const delivery of kept.filter(({ id }) => sent.has(id))) {
      expect({ ...delivery.headers }).toEqual({});
      expect(delivery.redeliveries).toBe(0);
      expect(delivery.routingKey).toBe("kept.along");
    }
    expect(events.kept.find(({ id }) => id === "event")?.routingKey).toBe("geo.us.sf");
    // What nobody takes when its time has come is kept, and holds up nobody.
    await until("the stray event", 60_000, async () => expect(await undelivered()).toBeGreaterThan(strays));
    await drained.close();
    await subscribed.close();
  });
});

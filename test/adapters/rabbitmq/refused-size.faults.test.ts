import { afterAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerOptions } from "../../../core/options.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { useVirtualHost } from "../conformance/virtual-host.ts";

const PATIENCE_MS = 240_000;
const LIMIT = 100_000;
const LARGE = "x".repeat(2 * LIMIT);

describeRabbitMQ("messages over a limit that RabbitMQ was given later", (broker) => {
  const host = useVirtualHost(broker);
  const { rabbitmqctl } = broker;
  // Read from either, by version, when a channel is opened.
  const limit = (bytes: number) =>
    rabbitmqctl?.(
      "eval",
      `application:set_env(rabbit, max_message_size, ${bytes}), persistent_term:put(max_message_size, ${bytes}).`,
    );
  const brokers: Broker[] = [];

  afterAll(async () => {
    await limit(16_777_216);
    await Promise.all(brokers.map((one) => one.stop({ timeoutMs: 1_000 })));
  });

  async function started(options: BrokerOptions): Promise<Broker> {
    const one = createBroker(rabbitmq({ url: host().url }), options);
    brokers.push(one);
    await one.start();
    return one;
  }

  /** A failing consumer of six messages over the limit, and of twenty others. */
  async function consumed(name: string, declare: "create" | "verify") {
    if (!rabbitmqctl) throw new Error("asked for without rabbitmqctl");
    const orders = queue<string>(`${host().namePrefix}${name}`);
    await limit(16_777_216);
    const sender = await started({ destinations: [orders] });
    for (let n = 0; n < 6; n++) await sender.send(orders, LARGE);
    for (let n = 0; n < 20; n++) await sender.send(orders, `good ${n}`);
    await limit(LIMIT);
    const handled: string[] = [];
    const one = await started({ declare });
    const consumer = one.consume(
      orders,
      (body) => {
        if (body === LARGE) throw new Error("no total");
        handled.push(body);
      },
      { concurrency: 2, prefetch: { messages: 5 }, retry: { attempts: 1 } },
    );
    await until("the good ones", PATIENCE_MS, () => expect(handled).toHaveLength(20));
    return { one, consumer, orders };
  }

  test("are moved to the dead letters by RabbitMQ itself; others pass", async (context) => {
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    const { one, consumer, orders } = await consumed("moved", "create");
    await until("the six to be dead", PATIENCE_MS, () => expect(consumer.status().deadLettered).toBe(6));
    await until("them to have left", PATIENCE_MS, () => expect(consumer.status().unsettled).toBe(0));
    expect(consumer.status()).toMatchObject({ parked: 0, state: "running" });
    const dead = deadLetters(one, orders);
    await until("RabbitMQ to have moved them", PATIENCE_MS, async () => {
      expect(await dead.count()).toMatchObject({ count: 6 });
    });
    const { entries } = await dead.list({ bodyBytes: 3 * LIMIT });
    expect(entries.map(({ body }) => JSON.parse(body))).toEqual(Array.from({ length: 6 }, () => LARGE));
    for (const { reason, error, valid } of entries) {
      expect({ reason, error, valid }).toMatchObject({ reason: "rejected", valid: "unknown" });
      expect(error).toContain("RabbitMQ moved it");
    }
    expect((await dead.groups()).groups).toMatchObject([{ count: 6 }]);
    // Sent back while the limit stands, each fails and stays; without it, each goes.
    const refused = await (await dead.replay("all")).run();
    expect(refused).toMatchObject({ done: 0, failed: 6 });
    expect(refused.failures[0]?.error).toMatchObject({ code: expect.stringMatching(/too-large|unconfirmed/) });
    await limit(16_777_216);
    const other = await started({ destinations: [orders] });
    await consumer.stop();
    expect(await (await deadLetters(other, orders).replay("all")).run()).toMatchObject({ done: 6, failed: 0 });
    expect(await other.depth(orders)).toMatchObject({ ready: 6 });
  });

  test("are parked where it is not known that the queue dead-letters; none is dropped", async (context) => {
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    const { one, consumer, orders } = await consumed("unknown", "verify");
    await until("the six to be parked", PATIENCE_MS, () => expect(consumer.status().parked).toBe(6));
    expect(consumer.status()).toMatchObject({ unsettled: 6, state: "stalled" });
    expect(consumer.status().error?.message).toContain('declare: "create"');
    await consumer.stop();
    await until("them to be back", PATIENCE_MS, async () => {
      expect(await one.depth(orders)).toMatchObject({ ready: 6 });
    });
  });
});

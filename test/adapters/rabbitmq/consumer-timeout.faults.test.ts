import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import { type RunningRabbitMQ, startRabbitMQ } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";

interface Order {
  readonly n: number;
}

const TIMEOUT_MS = 8_000;
const HANDLER_MS = 20_000;

describeRabbitMQ("a RabbitMQ with a consumer timeout shorter than a handler", (shared) => {
  let broker: RunningRabbitMQ | undefined;
  let url = "";

  beforeAll(async () => {
    if (shared.rabbitmqctl === undefined) return;
    broker = await startRabbitMQ({ ...process.env, RABBITMQ_URL: "" });
    // What channels are told when they are opened; before 4.3 they look once a minute otherwise.
    await broker.rabbitmqctl?.("eval", `application:set_env(rabbit, consumer_timeout, ${TIMEOUT_MS}).`);
    await broker.rabbitmqctl?.("eval", "application:set_env(rabbit, channel_tick_interval, 1000).");
    url = broker.url;
  });
  afterAll(() => broker?.stop());

  const asksForMore = () => serverVersion(broker?.version).atLeast(4, 3);

  test("a handler that takes longer is started as often as its policy allows, with each attempt counted", async (context) => {
    if (broker === undefined) {
      context.skip("NOT RUN: RabbitMQ was given by URL, so its consumer timeout cannot be set");
      return;
    }
    const orders = queue<Order>("slow");
    const events: BrokerEvent[] = [];
    const app = createBroker(rabbitmq({ url }), { onEvent: (event) => events.push(event) });
    const attempts: number[] = [];
    const consumer = app.consume(
      orders,
      async (_, { attempt }) => {
        attempts.push(attempt);
        await new Promise((resolve) => setTimeout(resolve, HANDLER_MS));
      },
      { retry: { attempts: 3, delay: { firstMs: 100 } } },
    );
    await app.start();
    await app.send(orders, { n: 1 });
    const dead = () => events.filter(({ type }) => type === "dead-lettered");
    await until("an end", 120_000, () => expect(dead().length + consumer.status().succeeded).toBeGreaterThan(0));
    // What is still running beside it ends, and nothing starts again.
    await until("the handlers' end", 120_000, () => {
      expect(consumer.status()).toMatchObject({ running: 0, abandoned: 0, unsettled: 0 });
    });
    expect(await app.depth(orders)).toMatchObject({ ready: 0 });
    if (asksForMore()) {
      expect(attempts).toEqual([1]);
      expect(dead()).toEqual([]);
    } else {
      // The first channel is lost to a limit that was not known, which is no attempt.
      expect(attempts).toEqual([1, 1, 2, 3]);
      expect(dead()).toMatchObject([{ reason: "attempts", error: { code: "timeout" } }]);
      const told = events.filter(({ type }) => type === "notice");
      expect(told).toMatchObject([
        { error: { code: "timeout", message: expect.stringContaining(`${TIMEOUT_MS} ms`) } },
      ]);
    }
    await app.stop();
  });

  test("an ordered message rests for longer, and comes when it is due", async (context) => {
    if (broker === undefined) {
      context.skip("NOT RUN: RabbitMQ was given by URL, so its consumer timeout cannot be set");
      return;
    }
    const orders = queue<Order>("resting", { ordered: true, key: () => "one" });
    const app = createBroker(rabbitmq({ url, consumerTimeoutMs: TIMEOUT_MS }));
    const starts: { n: number; attempt: number; at: number }[] = [];
    app.consume(
      orders,
      ({ n }, { attempt }) => {
        starts.push({ n, attempt, at: performance.now() });
        if (n === 1 && attempt === 1) throw new Error("not yet");
      },
      { retry: { attempts: 3, delay: { firstMs: HANDLER_MS, jitter: 0 } } },
    );
    await app.start();
    await app.send(orders, { n: 1 });
    await app.send(orders, { n: 2 });
    await until("both", 120_000, () => expect(starts).toHaveLength(3));
    expect(starts.map(({ n, attempt }) => [n, attempt])).toEqual([
      [1, 1],
      [1, 2],
      [2, 1],
    ]);
    const [first, second] = starts;
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(HANDLER_MS - 1);
    await app.stop();
  });
});

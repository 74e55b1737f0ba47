import { type Channel, type ChannelModel, type ConsumeMessage, connect, type GetMessage } from "amqplib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DeliveryCount } from "../../../adapters/rabbitmq/dead-letters.ts";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

interface Order {
  readonly n: number;
}

test.each<[string, string, boolean, boolean, Record<string, unknown>, number]>([
  ["3.10.8", "a first delivery", true, false, { "x-delivery-count": 50 }, 0],
  ["3.10.8", "a redelivery", true, true, { "x-delivery-count": 2 }, 2],
  [
    "4.2.0",
    "a redelivery beside the acquisitions of another queue",
    true,
    true,
    { "x-delivery-count": 4, "x-acquired-count": 1 },
    4,
  ],
  ["3.10.8", "a redelivery that was not counted", true, true, {}, 1],
  ["3.10.8", "a classic queue's", false, true, { "x-delivery-count": 50 }, 1],
  ["4.3.0", "a first delivery", true, false, { "x-delivery-count": 50, "x-acquired-count": 50 }, 0],
  ["4.3.0", "what was only given back", true, true, { "x-acquired-count": 3 }, 0],
  ["4.3.0", "deaths and returns", true, true, { "x-delivery-count": 2, "x-acquired-count": 3 }, 2],
  ["4.3.0", "deaths in another queue, and one here", true, true, { "x-delivery-count": 9, "x-acquired-count": 2 }, 1],
  ["4.3.0", "a count of a sender in place of the queue's", true, true, { "x-delivery-count": 50 }, 1],
  ["4.3.0", "a count that is none", true, true, { "x-delivery-count": "50", "x-acquired-count": 1 }, 0],
])("on %s, %s", (version, _what, isQuorum, redelivered, headers, expected) => {
  const count = new DeliveryCount(serverVersion(version), isQuorum);
  const message = { fields: { redelivered }, properties: { headers } } as unknown as ConsumeMessage;
  expect(count.of(message)).toBe(expected);
});

test("a queue that redelivers without a count is believed none from then on", () => {
  const count = new DeliveryCount(serverVersion("3.10.8"), true);
  const redelivered = (headers: Record<string, unknown>) =>
    ({ fields: { redelivered: true }, properties: { headers } }) as unknown as ConsumeMessage;
  expect(count.of(redelivered({}))).toBe(1);
  expect(count.of(redelivered({ "x-delivery-count": 50 }))).toBe(1);
  expect(count.isQuorum).toBe(false);
});

describeRabbitMQ("delivery counts of RabbitMQ that another queue made, or a sender", (broker) => {
  let place: VirtualHost;
  let connection: ChannelModel;
  const countsAcquisitions = () => serverVersion(broker.version).atLeast(4, 3);
  let names = 0;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    connection = await connect(place.url);
  });
  afterAll(async () => {
    await connection?.close();
    await place?.remove();
  });

  const newName = (): string => `${place.namePrefix}orders-${++names}`;

  async function withChannel<Result>(use: (channel: Channel) => Promise<Result>): Promise<Result> {
    const channel = await connection.createChannel();
    try {
      return await use(channel);
    } finally {
      await channel.close();
    }
  }

  const declare = (name: string, type: "quorum" | "classic", given: Record<string, string> = {}): Promise<unknown> =>
    withChannel((channel) =>
      channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": type, ...given } }),
    );

  async function publish(to: string, headers: Record<string, unknown>, n = 1): Promise<void> {
    const channel = await connection.createConfirmChannel();
    channel.publish("", to, Buffer.from(JSON.stringify({ n })), {
      persistent: true,
      messageId: `m-${n}`,
      contentType: "application/json",
      headers,
    });
    await channel.waitForConfirms();
    await channel.close();
  }

  /** Takes the message of a queue and dies with it, so many times. */
  async function dieWith(name: string, times: number): Promise<void> {
    for (let death = 0; death < times; death++) await taken(name, async () => {});
  }

  /** The next message of a queue, which goes back unless it is settled by `use`. */
  async function taken(
    name: string,
    use: (message: ConsumeMessage, channel: Channel) => Promise<void>,
  ): Promise<ConsumeMessage> {
    return withChannel(async (channel) => {
      const { promise, resolve } = Promise.withResolvers<ConsumeMessage>();
      await channel.consume(name, (message) => message !== null && resolve(message));
      const message = await promise;
      await use(message, channel);
      return message;
    });
  }

  async function handledAs(name: string, ordered = false): Promise<number> {
    const orders = queue<Order>(name, { ordered });
    const started = Promise.withResolvers<number>();
    const app = createBroker(rabbitmq({ url: place.url }), {
      onEvent: (event) => {
        if (event.type === "dead-lettered") started.reject(new Error(`dead as ${event.reason}`));
      },
    });
    app.consume(orders, (_, { attempt }) => started.resolve(attempt), { retry: { attempts: 3 } });
    await app.start();
    try {
      return await started.promise;
    } finally {
      await app.stop();
    }
  }

  async function make(name: string, ordered = false): Promise<void> {
    const app = createBroker(rabbitmq({ url: place.url }), { destinations: [queue<Order>(name, { ordered })] });
    await app.start();
    await app.stop();
  }

  test("a message whose sender wrote a count is at its first attempt", async () => {
    const name = newName();
    await make(name);
    await publish(name, { "x-delivery-count": 50, "x-acquired-count": 50 });
    expect(await handledAs(name)).toBe(1);
  });

  test("so is one that a shovel moved, with the headers it had", async () => {
    const [from, to] = [newName(), newName()];
    await declare(from, "quorum");
    await make(to);
    await publish(from, {});
    await dieWith(from, 4);
    const message = await taken(from, async (one, channel) => channel.ack(one));
    expect(message.properties.headers?.["x-delivery-count"]).toBeGreaterThanOrEqual(4);
    await publish(to, message.properties.headers ?? {});
    expect(await handledAs(to)).toBe(1);
  });

  test("what dies here with a message counts from its first delivery here on", async () => {
    const name = newName();
    await make(name);
    await publish(name, { "x-delivery-count": 50, "x-acquired-count": 50 });
    await dieWith(name, 1);
    expect(await redeliveriesOf(name)).toBe(1);
  });

  test.each([false, true])(
    "of a message that was dead-lettered from another queue, its deaths there do not count (ordered: %s)",
    async (ordered) => {
      const [from, to] = [newName(), newName()];
      await make(to, ordered);
      await declare(from, "quorum", { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": to });
      await publish(from, {});
      await dieWith(from, 4);
      await taken(from, async (one, channel) => channel.nack(one, false, false));
      expect(await handledAs(to, ordered)).toBe(1);
    },
  );

  test.each([false, true])("deaths here do, however often it is taken (ordered: %s)", async (ordered) => {
    const name = newName();
    await make(name, ordered);
    await publish(name, {});
    await dieWith(name, 2);
    for (let times = 0; times < 3; times++) {
      const expected = countsAcquisitions() ? 2 : 2 + times;
      expect(await redeliveriesOf(name, ordered)).toBeGreaterThanOrEqual(expected);
    }
  });

  test("a classic queue, which counts nothing, is believed nothing", async () => {
    const name = newName();
    await declare(name, "classic");
    await publish(name, {}, 1);
    await publish(name, { "x-delivery-count": 50, "x-acquired-count": 50 }, 2);
    // Both, so that they come again as redelivered.
    await withChannel(async (channel) => {
      const both: GetMessage[] = [];
      await until("both", 60_000, async () => {
        const one = await channel.get(name);
        if (one !== false) both.push(one);
        expect(both).toHaveLength(2);
      });
    });
    const session = await openAdapter({ url: place.url });
    const { kept, sink } = keepingSink();
    await session.adapter.receive({ kind: "queue", name }, { prefetch: 5, ordered: false }, sink);
    await until("both", 60_000, () => expect(kept).toHaveLength(2));
    expect(kept.map(({ redeliveries }) => redeliveries)).toEqual([1, 1]);
    await session.adapter.close();
  });

  async function redeliveriesOf(name: string, ordered = false): Promise<number | undefined> {
    const session = await openAdapter({ url: place.url });
    const { kept, sink } = keepingSink();
    const options = { prefetch: 5, ordered, handlerTimeoutMs: 60_000 };
    await session.adapter.receive({ kind: "queue", name }, options, sink);
    await until("the delivery", 60_000, () => expect(kept).toHaveLength(1));
    await session.adapter.close();
    return kept[0]?.redeliveries;
  }
});

import { type ChannelModel, type ConfirmChannel, connect } from "amqplib";
import { createBroker, type Queue } from "anybroker";
import { rabbitmq } from "anybroker/rabbitmq";
import { freshQueue, ORDER, type Order } from "./body.ts";
import { type Comparison, callsPerSecond, countdown, quantile } from "./measure.ts";

const PREFETCH = 500;
const LATENCY_SAMPLES = 250;
const LATENCY_EVERY_MS = 20;

/** The adapter beside `amqplib` used by hand, on one broker: quorum queues, persistent messages, confirms. */
export function besideAmqplib(url: string): readonly Comparison[] {
  const publish = (callers: number, messages: number): Comparison => ({
    title: `RabbitMQ, send, ${callers === 1 ? "one caller" : `${callers} callers`}`,
    unit: "messages/s",
    better: "higher",
    target: 0.9,
    rounds: 7,
    theirs: { name: "amqplib, confirms", run: () => rawPublish(url, callers, messages) },
    ours: { name: "anybroker/rabbitmq", run: () => publishOurs(url, callers, messages) },
  });
  return [
    publish(1, 2_000),
    publish(100, 30_000),
    {
      title: "RabbitMQ, consume, ack after each handler",
      unit: "messages/s",
      better: "higher",
      target: 0.9,
      rounds: 7,
      theirs: { name: `amqplib, prefetch ${PREFETCH}`, run: () => rawConsume(url, 30_000) },
      ours: { name: "anybroker/rabbitmq", run: () => consumeOurs(url, 30_000) },
    },
    {
      title: "RabbitMQ, end to end p50 at 50/s",
      unit: "ms",
      better: "lower",
      target: 1,
      rounds: 5,
      theirs: { name: "amqplib, two connections", run: () => rawLatency(url) },
      ours: { name: "anybroker/rabbitmq", run: () => latencyOurs(url) },
    },
  ];
}

const QUORUM = { durable: true, arguments: { "x-queue-type": "quorum" } };

async function withConnection<Value>(url: string, use: (connection: ChannelModel) => Promise<Value>): Promise<Value> {
  const connection = await connect(url);
  try {
    return await use(connection);
  } finally {
    await connection.close();
  }
}

function rawSend(channel: ConfirmChannel, queue: string, order: Order): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error: unknown): void => (error ? reject(error) : resolve());
    channel.publish("", queue, Buffer.from(JSON.stringify(order)), { persistent: true, mandatory: true }, done);
  });
}

function rawPublish(url: string, callers: number, messages: number): Promise<number> {
  return withConnection(url, async (connection) => {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue(freshQueue("raw").name, QUORUM);
    const perSecond = await callsPerSecond(callers, messages, () => rawSend(channel, queue, ORDER));
    await channel.deleteQueue(queue);
    return perSecond;
  });
}

async function publishOurs(url: string, callers: number, messages: number): Promise<number> {
  const orders = freshQueue("ours");
  const broker = createBroker(rabbitmq({ url }), { destinations: [orders] });
  await broker.start();
  const perSecond = await callsPerSecond(callers, messages, () => broker.send(orders, ORDER));
  await broker.stop();
  await remove(url, orders);
  return perSecond;
}

function rawConsume(url: string, messages: number): Promise<number> {
  return withConnection(url, async (connection) => {
    const filling = await connection.createConfirmChannel();
    const { queue } = await filling.assertQueue(freshQueue("raw").name, QUORUM);
    await callsPerSecond(500, messages, () => rawSend(filling, queue, ORDER));
    const channel = await connection.createChannel();
    await channel.prefetch(PREFETCH);
    const { tick, done } = countdown(messages);
    const handle = async (order: Order): Promise<void> => {
      if (order.total > 0) tick();
    };
    const begin = performance.now();
    await channel.consume(queue, async (message) => {
      if (message === null) return;
      await handle(JSON.parse(message.content.toString()));
      channel.ack(message);
    });
    await done;
    const perSecond = (messages * 1_000) / (performance.now() - begin);
    await channel.deleteQueue(queue);
    return perSecond;
  });
}

async function consumeOurs(url: string, messages: number): Promise<number> {
  const orders = freshQueue("ours");
  const filling = createBroker(rabbitmq({ url }), { destinations: [orders] });
  await filling.start();
  await callsPerSecond(500, messages, () => filling.send(orders, ORDER));
  const broker = createBroker(rabbitmq({ url }));
  await broker.start();
  const { tick, done } = countdown(messages);
  const begin = performance.now();
  broker.consume(
    orders,
    async (order) => {
      if (order.total > 0) tick();
    },
    { concurrency: PREFETCH, prefetch: { messages: PREFETCH } },
  );
  await done;
  const perSecond = (messages * 1_000) / (performance.now() - begin);
  await broker.stop();
  await filling.stop();
  await remove(url, orders);
  return perSecond;
}

/** Sends one message every 20 ms and takes the time from before the send to inside the handler. */
async function sampleLatency(send: (order: Order) => Promise<unknown>, wait: Promise<void>): Promise<void> {
  for (let sample = 0; sample < LATENCY_SAMPLES; sample++) {
    await new Promise((resolve) => setTimeout(resolve, LATENCY_EVERY_MS));
    await send({ ...ORDER, total: performance.now() });
  }
  await wait;
}

function rawLatency(url: string): Promise<number> {
  return withConnection(url, (publishing) =>
    withConnection(url, async (consuming) => {
      const sender = await publishing.createConfirmChannel();
      const channel = await consuming.createChannel();
      const { queue } = await sender.assertQueue(freshQueue("raw").name, QUORUM);
      const times: number[] = [];
      const { tick, done } = countdown(LATENCY_SAMPLES);
      await channel.prefetch(PREFETCH);
      await channel.consume(queue, (message) => {
        if (message === null) return;
        const order: Order = JSON.parse(message.content.toString());
        times.push(performance.now() - order.total);
        channel.ack(message);
        tick();
      });
      await sampleLatency((order) => rawSend(sender, queue, order), done);
      await channel.deleteQueue(queue);
      return quantile(times, 0.5);
    }),
  );
}

async function latencyOurs(url: string): Promise<number> {
  const orders = freshQueue("ours");
  const broker = createBroker(rabbitmq({ url }));
  const times: number[] = [];
  const { tick, done } = countdown(LATENCY_SAMPLES);
  broker.consume(orders, async (order) => {
    times.push(performance.now() - order.total);
    tick();
  });
  await broker.start();
  await sampleLatency((order) => broker.send(orders, order), done);
  await broker.stop();
  await remove(url, orders);
  return quantile(times, 0.5);
}

async function remove(url: string, orders: Queue<Order>): Promise<void> {
  await withConnection(url, async (connection) => {
    const channel = await connection.createChannel();
    for (const name of ["", ".dlq", ".quarantine"]) await channel.deleteQueue(orders.name + name);
  });
}

import { createBroker, type Topic } from "anybroker";
import { kafka } from "anybroker/kafka";
import { Kafka, logLevel, Partitioners, type Producer } from "kafkajs";
import { freshTopic, ORDER, type Order } from "./body.ts";
import { type Comparison, callsPerSecond, countdown } from "./measure.ts";

const PARTITIONS = 4;
const CONSUMED = 200_000;
const HAND_BATCH = 500;
const HAND_BATCHES = 5;

/** The adapter beside `kafkajs` used by hand, on one topic of four partitions, acks=all. */
export async function besideKafkajs(brokers: string): Promise<readonly Comparison[]> {
  const topic = freshTopic("bench");
  const ours = createBroker(kafka({ brokers, partitions: PARTITIONS }), { destinations: [topic] });
  await ours.start();
  await callsPerSecond(2_000, CONSUMED, () => ours.publish(topic, ORDER));
  await ours.stop();
  const filled = topic;
  const published = freshTopic("bench");
  const publish = (callers: number, messages: number, target: number): Comparison => ({
    title: `Kafka, publish, ${callers === 1 ? "one caller" : `${callers} callers`}`,
    unit: "messages/s",
    better: "higher",
    target,
    rounds: 7,
    theirs: { name: "kafkajs, a message a call", run: () => rawPublish(brokers, published, callers, messages) },
    ours: { name: "anybroker/kafka", run: () => publishOurs(brokers, published, callers, messages) },
  });
  return [
    publish(1, 2_000, 0.9),
    publish(100, 20_000, 10),
    {
      ...publish(2_000, 100_000, 0.8),
      theirs: {
        name: `kafkajs, by hand ${HAND_BATCH} × ${HAND_BATCHES}`,
        run: () => rawBatches(brokers, published, 100_000),
      },
    },
    {
      title: "Kafka, consume, ack after each handler",
      unit: "messages/s",
      better: "higher",
      target: 0.5,
      rounds: 7,
      theirs: { name: "kafkajs, eachBatch, no settlement", run: () => rawConsume(brokers, filled) },
      ours: { name: "anybroker/kafka", run: () => consumeOurs(brokers, filled) },
    },
  ];
}

function client(brokers: string): Kafka {
  return new Kafka({ brokers: brokers.split(","), logLevel: logLevel.NOTHING });
}

async function declare(brokers: string, topic: Topic<Order>): Promise<void> {
  const broker = createBroker(kafka({ brokers, partitions: PARTITIONS }), { destinations: [topic] });
  await broker.start();
  await broker.stop();
}

async function withProducer(
  brokers: string,
  topic: Topic<Order>,
  use: (producer: Producer) => Promise<number>,
): Promise<number> {
  await declare(brokers, topic);
  const producer = client(brokers).producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  // The first send looks up the topic.
  await producer.send({ topic: topic.name, acks: -1, messages: [{ value: JSON.stringify(ORDER) }] });
  try {
    return await use(producer);
  } finally {
    await producer.disconnect();
  }
}

function rawPublish(brokers: string, topic: Topic<Order>, callers: number, messages: number): Promise<number> {
  return withProducer(brokers, topic, (producer) =>
    callsPerSecond(callers, messages, () =>
      producer.send({ topic: topic.name, acks: -1, messages: [{ value: JSON.stringify(ORDER) }] }),
    ),
  );
}

function rawBatches(brokers: string, topic: Topic<Order>, messages: number): Promise<number> {
  return withProducer(brokers, topic, async (producer) => {
    const batch = () => Array.from({ length: HAND_BATCH }, () => ({ value: JSON.stringify(ORDER) }));
    const calls = await callsPerSecond(HAND_BATCHES, messages / HAND_BATCH, () =>
      producer.send({ topic: topic.name, acks: -1, messages: batch() }),
    );
    return calls * HAND_BATCH;
  });
}

async function publishOurs(brokers: string, topic: Topic<Order>, callers: number, messages: number): Promise<number> {
  const broker = createBroker(kafka({ brokers, partitions: PARTITIONS }), { destinations: [topic] });
  await broker.start();
  await broker.publish(topic, ORDER);
  const perSecond = await callsPerSecond(callers, messages, () => broker.publish(topic, ORDER));
  await broker.stop();
  return perSecond;
}

/** Messages per second between the first and the last. */
class Stopwatch {
  readonly done: Promise<void>;
  readonly #tick: () => void;
  #begin = 0;

  constructor() {
    const { tick, done } = countdown(CONSUMED);
    this.#tick = tick;
    this.done = done;
  }

  handle(order: Order): void {
    if (this.#begin === 0) this.#begin = performance.now();
    if (order.total > 0) this.#tick();
  }

  async perSecond(): Promise<number> {
    await this.done;
    return (CONSUMED * 1_000) / (performance.now() - this.#begin);
  }
}

async function rawConsume(brokers: string, topic: Topic<Order>): Promise<number> {
  const consumer = client(brokers).consumer({ groupId: freshTopic("raw").name });
  await consumer.connect();
  await consumer.subscribe({ topic: topic.name, fromBeginning: true });
  const watch = new Stopwatch();
  const handle = async (order: Order): Promise<void> => watch.handle(order);
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      for (const { value } of batch.messages) await handle(JSON.parse(String(value)));
    },
  });
  const perSecond = await watch.perSecond();
  await consumer.disconnect();
  return perSecond;
}

async function consumeOurs(brokers: string, topic: Topic<Order>): Promise<number> {
  const broker = createBroker(kafka({ brokers, partitions: PARTITIONS }));
  const watch = new Stopwatch();
  broker.subscribe(topic, freshTopic("ours").name, async (order) => watch.handle(order), {
    from: "earliest",
    concurrency: 500,
    prefetch: { messages: 5_000 },
  });
  await broker.start();
  const perSecond = await watch.perSecond();
  await broker.stop();
  return perSecond;
}

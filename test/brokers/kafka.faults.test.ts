import { randomUUID } from "node:crypto";
import { Kafka, logLevel, Partitioners } from "kafkajs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Namespace } from "./kafka.ts";
import { controlsOrNotRun, describeKafka } from "./suite.ts";

describeKafka("Kafka to test against", (broker) => {
  let place: Namespace;

  beforeAll(() => {
    place = broker.newNamespace();
  });

  afterAll(async () => {
    await place.remove();
  });

  const topicName = (name: string) => `${place.namePrefix}${name}`;

  function client(brokers = broker.brokers): Kafka {
    return new Kafka({
      brokers: [...brokers],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 50, maxRetryTime: 200 },
    });
  }

  async function makeTopic(topic: string): Promise<void> {
    const admin = client().admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
    await admin.disconnect();
  }

  async function store(topic: string, value: string, kafka = client()): Promise<void> {
    const producer = kafka.producer({
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
    });
    await producer.connect();
    try {
      await producer.send({ topic, messages: [{ value }] });
    } finally {
      await producer.disconnect();
    }
  }

  async function firstOf(topic: string): Promise<string | undefined> {
    const consumer = client().consumer({ groupId: topicName(randomUUID()), allowAutoTopicCreation: false });
    await consumer.connect();
    try {
      await consumer.subscribe({ topic, fromBeginning: true });
      const { promise: first, resolve } = Promise.withResolvers<string | undefined>();
      await consumer.run({ eachMessage: async ({ message }) => resolve(message.value?.toString()) });
      return await first;
    } finally {
      await consumer.disconnect();
    }
  }

  async function topicsOf(namespace: Namespace): Promise<string[]> {
    const admin = client().admin();
    await admin.connect();
    try {
      return (await admin.listTopics()).filter((topic) => topic.startsWith(namespace.namePrefix));
    } finally {
      await admin.disconnect();
    }
  }

  test("carries messages, and makes no topic that was not asked for", async () => {
    await makeTopic(topicName("plain"));
    await store(topicName("plain"), "hello");
    expect(await firstOf(topicName("plain"))).toBe("hello");
    await expect(store(topicName("missing"), "hello")).rejects.toThrow(/does not host this topic/);
    expect(await topicsOf(place)).not.toContain(topicName("missing"));
  });

  test("a namespace that is removed takes its topics with it, and no others", async () => {
    const other = broker.newNamespace();
    await makeTopic(topicName("mine"));
    await makeTopic(`${other.namePrefix}mine`);
    expect(await topicsOf(other)).toHaveLength(1);
    await other.remove();
    await expect.poll(() => topicsOf(other)).toEqual([]);
    expect(await topicsOf(place)).toContain(topicName("mine"));
  });

  test.for(["restart", "kill and start"] as const)("%s keeps the address and the data", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    const topic = topicName(fault.replaceAll(" ", "-"));
    await makeTopic(topic);
    await store(topic, "kept");
    if (fault === "restart") {
      await controls.restart();
    } else {
      await controls.kill();
      const admin = new Kafka({
        brokers: [...broker.brokers],
        logLevel: logLevel.NOTHING,
        retry: { retries: 0 },
      }).admin();
      await expect(admin.connect()).rejects.toThrow();
      await controls.start();
    }
    expect(await firstOf(topic)).toBe("kept");
  });

  test("a frozen broker answers nothing, and goes on when thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    await makeTopic(topicName("frozen"));
    await controls.pause();
    let answered = false;
    const answer = store(topicName("frozen"), "thawed").then(() => {
      answered = true;
    });
    const impatient = new Kafka({
      brokers: [...broker.brokers],
      logLevel: logLevel.NOTHING,
      requestTimeout: 1_000,
      retry: { retries: 0 },
    }).admin();
    try {
      // A request that runs into its own deadline shows that the broker had the time to answer.
      await expect(impatient.connect()).rejects.toThrow();
      expect(answered).toBe(false);
    } finally {
      await controls.resume();
      await impatient.disconnect();
    }
    await answer;
    expect(await firstOf(topicName("frozen"))).toBe("thawed");
  });

  test("all of a client's connections come through a link, which can be cut", async (context) => {
    if (!broker.faultyLink) return context.skip("NOT RUN: kafka was given by URL, and tells clients where to connect");
    const topic = topicName("linked");
    await makeTopic(topic);
    const link = await broker.faultyLink();
    const kafka = client([`${link.host}:${link.port}`]);
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, retry: { retries: 0 } });
    try {
      await producer.connect();
      await producer.send({ topic, messages: [{ value: "before" }] });
      link.refuse();
      await expect(producer.send({ topic, messages: [{ value: "during" }] })).rejects.toThrow();
      link.restore();
      await store(topic, "after", kafka);
    } finally {
      await producer.disconnect();
      await link.close();
    }
    expect(await firstOf(topic)).toBe("before");
  });
});

import type { Message } from "kafkajs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import type { KafkaRecord } from "../../../adapters/kafka/message-codec.ts";
import { topicName } from "../../../adapters/kafka/names.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { type Delivery, deadLetter } from "../../../core/delivery.ts";
import { queue, topic } from "../../../core/destination.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeKafka("records of other senders on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let session: Awaited<ReturnType<typeof openAdapter>>;

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers });
  });

  afterAll(async () => {
    await session?.adapter.close();
    await names.remove();
  });

  /** A broker object whose consumers are not those of another test. */
  function started(options: Parameters<typeof createBroker>[1] = {}) {
    const one = createBroker(kafka({ brokers: broker.brokers, sessionTimeoutMs: 6_000 }), options);
    onTestFinished(() => one.stop());
    return one;
  }

  async function produce(to: string, ...messages: Message[]): Promise<void> {
    const producer = session.adapter.kafkajs().producer();
    await producer.connect();
    await producer.send({ topic: to, messages });
    await producer.disconnect();
  }

  test("whose time is in nanoseconds stop neither a subscription from a time nor its rewinding", async () => {
    const odd = topic<{ n: number }>(named("nanoseconds"));
    const admin = session.adapter.kafkajs().admin();
    await admin.connect();
    const entries = [
      ["message.timestamp.type", "CreateTime"],
      ["message.timestamp.after.max.ms", "9223372036854775807"],
    ].map(([name = "", value = ""]) => ({ name, value }));
    await admin.createTopics({ topics: [{ topic: odd.name, numPartitions: 1, configEntries: entries }] });
    // Brokers learn of a topic one after another.
    await until("its leader", WAIT_MS, async () => {
      expect(await admin.fetchTopicOffsets(odd.name)).toHaveLength(1);
    });
    await admin.disconnect();
    const nanoseconds = `${Date.now()}000000`;
    await produce(odd.name, { value: '{"n":1}', timestamp: nanoseconds }, { value: '{"n":2}' });
    const got: { n: number; at: number }[] = [];
    const one = started();
    const before = Date.now();
    const from = new Date(1);
    one.subscribe(odd, "audit", ({ n }, { firstPublishedAt }) => void got.push({ n, at: firstPublishedAt.getTime() }), {
      from,
    });
    await one.start();
    await until("both", WAIT_MS, () => expect(got.map(({ n }) => n).sort()).toEqual([1, 2]));
    // No date is in it: the time of its receipt stands for it.
    for (const { at } of got) expect(at).toBeGreaterThanOrEqual(before - 60_000);
    await one.stop();
    got.length = 0;
    await session.adapter.rewind({ kind: "subscription", topic: odd.name, name: "audit" }, from);
    await one.start();
    await until("both again", WAIT_MS, () => expect(got.map(({ n }) => n).sort()).toEqual([1, 2]));
  });

  test("that are tombstones say so in their dead letters, and are tombstones when they are sent back", async () => {
    const orders = queue<{ n: number } | null>(named("tombstones"));
    const first = started();
    first.consume(orders, () => {});
    await first.start();
    await produce(topicName(orders), { key: Buffer.of(0, 255), value: null });
    await until("the dead letter", WAIT_MS, async () => {
      const { entries } = await deadLetters(first, orders).list();
      expect(entries).toHaveLength(1);
      expect(entries[0]).toMatchObject({ reason: "invalid", valid: false, size: 0 });
      expect(entries[0]?.error).toContain("it is a tombstone");
    });
    await first.stop();
    const handled: { body: unknown; delivery: Delivery }[] = [];
    const second = started();
    const taking = queue<{ n: number } | null>(orders.name, { tombstones: "null" });
    second.consume(taking, (body, delivery) => {
      handled.push({ body, delivery });
      if (delivery.attempt === 1) throw new Error("not yet");
      return deadLetter("enough");
    });
    await second.start();
    const { run } = await deadLetters(second, taking).replay("all");
    expect(await run()).toMatchObject({ done: 1 });
    await until("both attempts", WAIT_MS, () => expect(handled).toHaveLength(2));
    for (const { body, delivery } of handled) {
      const { key, value } = delivery.native as KafkaRecord;
      expect(body).toBeNull();
      expect(value).toBeUndefined();
      expect(key).toEqual(Buffer.of(0, 255));
    }
  });
});

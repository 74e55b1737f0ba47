import { randomBytes } from "node:crypto";
import { Kafka, logLevel, Partitioners } from "kafkajs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, type TestContext, test } from "vitest";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { createProducer, type KafkaProducer } from "../../../adapters/kafka/producing/idempotent-producer.ts";
import type { RecordToSend } from "../../../adapters/kafka/producing/producer.ts";
import type { Compression, LogRecord } from "../../../adapters/kafka/records/contract.ts";
import { decodeRecords } from "../../../adapters/kafka/records/decode.ts";
import type { SendResult } from "../../../core/adapter.ts";
import type { FaultyLink } from "../../brokers/faulty-link.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { controlsOrNotRun, describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { connectionTo, makeTopics } from "./kafkajs/wire.ts";

const PARTITIONS = 4;
const QUICK = { requestTimeoutMs: 1_000, connectionTimeoutMs: 1_000 };

describeKafka("producing to Kafka", (broker) => {
  let place: Namespace;
  let reading: KafkaConnection;
  let topic: string;
  let made = 0;
  const ends: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    place = broker.newNamespace();
    reading = connectionTo(broker.brokers);
    await reading.connect();
  });
  afterAll(async () => {
    await reading?.close();
    await place?.remove();
  });
  beforeEach(async () => {
    topic = `${place.namePrefix}log${made++}`;
    await makeTopics(reading, PARTITIONS, topic);
  });
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  /** A producer on sockets of its own, opened. */
  async function openProducer(brokers = broker.brokers, compression: Compression = "none") {
    const connection = connectionTo(brokers, QUICK);
    const signals: string[] = [];
    const producer = createProducer({
      connection,
      compression,
      requestTimeoutMs: QUICK.requestTimeoutMs,
      deliveryTimeoutMs: 120_000,
      refreshMs: 1_000,
      signals: {
        up: () => signals.push("up"),
        down: () => signals.push("down"),
        notice: ({ message }) => signals.push(message),
      },
    });
    ends.push(async () => {
      producer.close();
      await connection.close();
    });
    await producer.open();
    return { producer, signals };
  }

  /** Everything in a topic, by partition. */
  async function read(name: string): Promise<LogRecord[][]> {
    const [metadata] = (await reading.metadata([name])).topics;
    const partitions = (metadata?.partitions ?? []).toSorted((a, b) => a.partition - b.partition);
    const topicId = metadata?.id ?? "";
    return Promise.all(partitions.map(({ partition, leader }) => readPartition(name, topicId, partition, leader)));
  }

  async function readPartition(name: string, topicId: string, partition: number, node: number): Promise<LogRecord[]> {
    const records: LogRecord[] = [];
    for (let offset = 0; ; ) {
      const asked = { topic: name, topicId, partition, offset, maxBytes: 5_000_000 };
      const request = { maxWaitMs: 100, minBytes: 1, maxBytes: 5_000_000, partitions: [asked] };
      const [fetched] = await reading.fetch(node, request);
      if (fetched === undefined || fetched.error !== undefined) throw new Error(`fetch: ${fetched?.error}`);
      const decoded = await decodeRecords(fetched.records, { ...asked, from: offset, abortedTransactions: [] });
      if (decoded.unreadable !== undefined) throw decoded.unreadable.error;
      records.push(...decoded.records);
      offset = decoded.nextOffset;
      if (offset >= fetched.highWatermark) return records;
    }
  }

  const valuesOf = (records: readonly LogRecord[]) => records.map(({ value }) => String(value));

  /** Sends values one by one, again those that are unknown, while `trouble` happens; resolves when all are confirmed. */
  async function sendThrough(producer: KafkaProducer, name: string, trouble: () => Promise<void>): Promise<string[]> {
    const sent: string[] = [];
    let open = 0;
    let isOver = false;
    const refused: unknown[] = [];
    const hand = (value: string): void => {
      producer.send(name, [plain(value)], (_, result) => {
        if (result.status === "unknown") {
          setTimeout(() => hand(value), 50);
          return;
        }
        open--;
        if (result.status === "rejected") refused.push(result.error);
      });
    };
    const pump = async (): Promise<void> => {
      while (!isOver) {
        for (let index = 0; index < 5; index++) {
          const value = `value ${sent.length}`;
          sent.push(value);
          open++;
          hand(value);
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    const pumping = pump();
    try {
      await trouble();
    } finally {
      isOver = true;
    }
    await pumping;
    await until("every answer", 100_000, () => expect(open).toBe(0));
    expect(refused).toEqual([]);
    return sent;
  }

  async function expectExactly(name: string, sent: readonly string[]): Promise<void> {
    const stored = (await read(name)).flatMap(valuesOf);
    expect(new Set(stored).size).toBe(stored.length);
    expect(stored.toSorted()).toEqual(sent.toSorted());
  }

  const someAreConfirmed = (name: string, more: number) =>
    until("records to arrive", 60_000, async () => {
      const count = (await read(name)).flat().length;
      expect(count).toBeGreaterThanOrEqual(more);
      return count;
    });

  test("keys land where kafkajs and Kafka's own clients put them, with everything else of a record", async () => {
    const { producer } = await openProducer();
    const other = `${topic}.kafkajs`;
    await makeTopics(reading, PARTITIONS, other);
    const keys = Array.from({ length: 100 }, (_, index) => `key ${index} ${"ü".repeat(index % 5)}`);
    const results = await send(
      producer,
      topic,
      keys.map((key) => ({ ...plain(`of ${key}`), key: Buffer.from(key) })),
    );
    expect(results.map(({ status }) => status)).toEqual(keys.map(() => "confirmed"));
    const kafka = new Kafka({ brokers: [...broker.brokers], logLevel: logLevel.NOTHING });
    const theirs = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await theirs.connect();
    await theirs.send({ topic: other, messages: keys.map((key) => ({ key, value: `of ${key}` })) });
    await theirs.disconnect();
    const [ours, expected] = await Promise.all([read(topic), read(other)]);
    expect(ours.map((records) => records.map(({ key }) => String(key)))).toEqual(
      expected.map((records) => records.map(({ key }) => String(key))),
    );
    expect(ours.every((records) => records.length > 0)).toBe(true);
  });

  test("tombstones, empty values and headers come back as they were sent", async () => {
    const { producer } = await openProducer();
    const records: RecordToSend[] = [
      { key: Buffer.from("gone"), value: undefined, headers: [], partition: 0 },
      {
        key: undefined,
        value: Buffer.alloc(0),
        headers: [
          ["__proto__", "é"],
          ["constructor", ""],
        ],
        partition: 0,
      },
    ];
    expect((await send(producer, topic, records)).map(({ status }) => status)).toEqual(["confirmed", "confirmed"]);
    const [stored] = await read(topic);
    expect(stored?.map(({ key, value }) => [key?.toString(), value?.toString()])).toEqual([
      ["gone", undefined],
      [undefined, ""],
    ]);
    expect(Object.entries(stored?.[1]?.headers ?? {}).map(([name, value]) => [name, String(value)])).toEqual([
      ["__proto__", "é"],
      ["constructor", ""],
    ]);
  });

  test.each<Compression>(["gzip", "zstd"])("batches compressed by %s are taken and read", async (compression) => {
    const { producer } = await openProducer(broker.brokers, compression);
    const values = Array.from({ length: 500 }, (_, index) => `value ${index}`.padEnd(300, "."));
    const results = await send(producer, topic, values.map(plain));
    expect(results.map(({ status }) => status)).toEqual(values.map(() => "confirmed"));
    expect((await read(topic)).flatMap(valuesOf).toSorted()).toEqual(values.toSorted());
  });

  test("what the topic does not take is rejected alone", async () => {
    const { producer } = await openProducer();
    const compacted = `${topic}.compacted`;
    const configuration = { "cleanup.policy": "compact", "max.message.bytes": "20000" };
    await reading.createTopics([{ topic: compacted, partitions: 1, replicationFactor: 1, configuration }]);
    await until("the topic", 30_000, async () => {
      const [made] = (await reading.metadata([compacted])).topics;
      expect(made?.partitions.map(({ leader }) => leader >= 0)).toEqual([true]);
    });
    const records = Array.from({ length: 30 }, (_, index): RecordToSend => {
      const key = index === 7 ? undefined : Buffer.from(String(index));
      // Compressed it is too large as well.
      const value = index === 20 ? randomBytes(30_000).toString("hex") : String(index).padEnd(2_000, ".");
      return { ...plain(value), key, partition: 0 };
    });
    const results = await send(producer, compacted, records);
    const codes = results.map((result) => (result.status === "rejected" ? result.error.code : result.status));
    expect(codes).toEqual(
      records.map((_, index) => (index === 7 ? "refused" : index === 20 ? "too-large" : "confirmed")),
    );
    const [stored] = await read(compacted);
    expect(stored?.map(({ key }) => Number(key?.toString()))).toEqual(
      records.flatMap((_, index) => (index === 7 || index === 20 ? [] : [index])),
    );
  });

  test("a topic that does not exist is rejected, and none is made by asking", async () => {
    const { producer } = await openProducer();
    const nowhere = `${topic}.nowhere`;
    expect(await send(producer, nowhere, [plain("a")])).toMatchObject([
      { status: "rejected", error: { code: "not-found", message: expect.stringContaining(nowhere) as string } },
    ]);
    expect((await reading.metadata([nowhere])).topics).toMatchObject([{ error: "UNKNOWN_TOPIC_OR_PARTITION" }]);
  });

  test("N sends are N distinct stored records while the broker is frozen and thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const { producer, signals } = await openProducer();
    const sent = await sendThrough(producer, topic, async () => {
      await someAreConfirmed(topic, 50);
      for (let round = 1; round <= 2; round++) {
        await controls.pause();
        try {
          await until("the outage seen", 60_000, () => expect(signals).toHaveLength(2 * round - 1));
        } finally {
          await controls.resume();
        }
        await until("the end of the outage seen", 60_000, () => expect(signals).toHaveLength(2 * round));
        await someAreConfirmed(topic, 0);
      }
    });
    await expectExactly(topic, sent);
  });

  test("N sends are N distinct stored records while the broker restarts", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const { producer, signals } = await openProducer();
    const sent = await sendThrough(producer, topic, async () => {
      const before = await someAreConfirmed(topic, 50);
      await controls.restart();
      await until("the end of the outage seen", 60_000, () => expect(signals.at(-1) ?? "up").toBe("up"));
      await someAreConfirmed(topic, before + 50);
    });
    await expectExactly(topic, sent);
  });

  test("N sends are N distinct stored records while the connection is cut and falls silent", async (context) => {
    const link = await linkOrNotRun(context);
    const { producer } = await openProducer([`127.0.0.1:${link.port}`]);
    const sent = await sendThrough(producer, topic, async () => {
      let count = await someAreConfirmed(topic, 50);
      for (let round = 0; round < 5; round++) {
        link.cut();
        count = await someAreConfirmed(topic, count + 20);
      }
      link.silence();
      await until("the silence noticed", 60_000, () => expect(producer.isConnected).toBe(false));
      link.restore();
      count = await someAreConfirmed(topic, count + 20);
      link.slow(20);
      count = await someAreConfirmed(topic, count + 20);
      link.cut();
      await someAreConfirmed(topic, count + 20);
    });
    await expectExactly(topic, sent);
  });

  async function linkOrNotRun(context: TestContext): Promise<FaultyLink> {
    const link = await broker.faultyLink?.();
    if (link === undefined) return context.skip("NOT RUN: kafka was given by URL, and tells clients where to connect");
    ends.push(() => link.close());
    return link;
  }
});

function plain(value: string): RecordToSend {
  return { key: undefined, value: Buffer.from(value), headers: [] };
}

function send(producer: KafkaProducer, topic: string, records: readonly RecordToSend[]): Promise<SendResult[]> {
  const { promise, resolve } = Promise.withResolvers<SendResult[]>();
  const results: SendResult[] = [];
  let missing = records.length;
  producer.send(topic, records, (index, result) => {
    results[index] = result;
    if (--missing === 0) resolve(results);
  });
  return promise;
}

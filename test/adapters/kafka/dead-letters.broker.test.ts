import { afterAll, beforeAll, expect, test } from "vitest";
import { PartitionLog } from "../../../adapters/kafka/dead-letters/partition-log.ts";
import { Remover } from "../../../adapters/kafka/dead-letters/receiver.ts";
import { type DeadLetterEntry, DeadLettersScan } from "../../../adapters/kafka/dead-letters/references.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { createProducer, type KafkaProducer } from "../../../adapters/kafka/producing/idempotent-producer.ts";
import { decodeRecords } from "../../../adapters/kafka/records/decode.ts";
import type { IncomingMessage, Receiver } from "../../../core/adapter.ts";
import { addressName, type DeadLettersAddress } from "../../../core/address.ts";
import { systemClock, systemRandom } from "../../../core/clock.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeKafka("dead letters on Kafka", (broker) => {
  const names = broker.newNamespace();
  const clock = systemClock();
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let connection: KafkaConnection;
  let producer: KafkaProducer;
  const client = kafkaJsClient({
    brokers: broker.brokers,
    clientId: "dead-letters",
    connectionTimeoutMs: 10_000,
    requestTimeoutMs: 10_000,
  });

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers });
    connection = client.connection();
    await connection.connect();
    producer = createProducer({ connection, signals: { up() {}, down() {}, notice() {} } });
    await producer.open();
  });

  afterAll(async () => {
    producer?.close();
    await connection?.close();
    await session?.adapter.close();
    await names.remove();
  });

  async function declared(name: string): Promise<DeadLettersAddress> {
    const declaration = workQueue(names.namePrefix + name);
    expect(await session.adapter.declare(topology({ queues: [declaration] }))).toEqual([]);
    return { kind: "dead-letters", of: declaration.address };
  }

  const send = async (to: DeadLettersAddress, ...ids: string[]): Promise<void> => {
    const results = await session.send(to, ...ids.map((id) => message(id, { key: `key of ${id}` })));
    expect(new Set(results.map(codeOf))).toEqual(new Set(["confirmed"]));
  };
  const receive = async (from: DeadLettersAddress, prefetch = 1_000) => {
    const { kept, sink, lost } = keepingSink();
    const receiver = await session.adapter.receive(from, { prefetch, ordered: false }, sink);
    return { receiver, kept, lost, ids: () => kept.map(({ id }) => id) };
  };
  const settle = (receiver: Receiver, messages: readonly IncomingMessage[], action: "ack" | "requeue" = "ack") =>
    receiver.settle(messages.map(({ token }) => ({ token, action })));
  const count = async (of: DeadLettersAddress): Promise<number> => {
    const { ready, exact } = await session.adapter.depth(of);
    expect(exact).toBe(true);
    return ready;
  };
  const openLog = (of: DeadLettersAddress): PartitionLog =>
    new PartitionLog(
      { topic: addressName(of), partition: 0 },
      { connection: client.connection(), decode: decodeRecords, clock, patienceMs: 30_000 },
    );
  const list = async (scan: DeadLettersScan): Promise<DeadLetterEntry[]> => {
    const entries: DeadLetterEntry[] = [];
    for await (const entry of scan.entries()) entries.push(entry);
    return entries;
  };

  test("stand until they are acknowledged, in order, and are counted exactly", async () => {
    const address = await declared("existing");
    await send(address, "a", "b", "c", "d");
    expect(await count(address)).toBe(4);
    const first = await receive(address);
    await until("all", WAIT_MS, () => expect(first.ids()).toEqual(["a", "b", "c", "d"]));
    expect(first.kept[0]).toMatchObject({ key: "key of a", contentType: "text/plain", redeliveries: 0 });
    expect(Buffer.from(first.kept[0]?.body ?? []).toString()).toBe("body of a");
    expect(await settle(first.receiver, first.kept.slice(1, 3))).toEqual(["settled", "settled"]);
    expect(await settle(first.receiver, first.kept.slice(1, 2))).toEqual(["fenced"]);
    expect(await count(address)).toBe(2);
    expect(await settle(first.receiver, first.kept.slice(0, 1), "requeue")).toEqual(["settled"]);
    await send(address, "e");
    await until("it again, and the new one", WAIT_MS, () => expect(first.ids().slice(4).sort()).toEqual(["a", "e"]));
    await first.receiver.close();
    const second = await receive(address);
    await until("the rest", WAIT_MS, () => expect(second.ids()).toEqual(["a", "d", "e"]));
    await settle(second.receiver, second.kept);
    await second.receiver.close();
    expect(await count(address)).toBe(0);
  });

  test("of one message are one entry, until that is acknowledged", async () => {
    const address = await declared("copies");
    await send(address, "a", "b", "a");
    expect(await count(address)).toBe(2);
    const { receiver, kept, ids } = await receive(address);
    await until("both", WAIT_MS, () => expect(ids()).toEqual(["b", "a"]));
    // It was sent back to its queue, and failed there again before its entry was removed.
    await send(address, "a");
    await settle(receiver, kept);
    await until("the new one", WAIT_MS, () => expect(ids()).toEqual(["b", "a", "a"]));
    expect(await count(address)).toBe(1);
    await settle(receiver, kept.slice(2));
    expect(await count(address)).toBe(0);
    await receiver.close();
  });

  test("are with one receiver at a time, and the next takes over", async () => {
    const address = await declared("exclusive");
    await send(address, "a", "b");
    const first = await receive(address);
    await until("both", WAIT_MS, () => expect(first.ids()).toEqual(["a", "b"]));
    const second = await receive(address);
    await send(address, "c");
    await until("the third", WAIT_MS, () => expect(first.ids()).toEqual(["a", "b", "c"]));
    expect(second.ids()).toEqual([]);
    await settle(first.receiver, first.kept.slice(0, 1));
    await first.receiver.close();
    await until("the others", WAIT_MS, () => expect(second.ids()).toEqual(["b", "c"]));
    await second.receiver.close();
  });

  test("come under the prefetch, and each once, however many there are", async () => {
    const address = await declared("many");
    const wanted = Array.from({ length: 3_000 }, (_, index) => `m-${index}`);
    for (let from = 0; from < wanted.length; from += 500) await send(address, ...wanted.slice(from, from + 500));
    const { receiver, kept, ids } = await receive(address, 50);
    let settled = 0;
    while (settled < wanted.length) {
      await until("the prefetch to fill", WAIT_MS, () =>
        expect(kept.length).toBe(Math.min(settled + 50, wanted.length)),
      );
      await settle(receiver, kept.slice(settled));
      settled = Math.min(settled + 50, wanted.length);
    }
    expect(ids()).toEqual(wanted);
    expect(await count(address)).toBe(0);
    await receiver.close();
  });

  test("can be listed and removed singly, whoever receives them", async () => {
    const address = await declared("listed");
    await send(address, "a", "b", "c");
    const { receiver, kept, ids } = await receive(address, 1);
    await until("the first", WAIT_MS, () => expect(ids()).toEqual(["a"]));
    const log = openLog(address);
    const scan = await DeadLettersScan.of(log);
    const entries = await list(scan);
    expect(entries.map(({ record }) => record.headers["anybroker-id"]?.toString())).toEqual(["a", "b", "c"]);
    const failed = (): void => {};
    const remover = new Remover({ topic: addressName(address), producer, clock, random: systemRandom(), failed });
    expect(await remover.remove(scan.keysOf(entries[1]?.key ?? ""))).toBe(true);
    expect(await count(address)).toBe(2);
    await settle(receiver, kept);
    await until("the next", WAIT_MS, () => expect(ids()).toEqual(["a", "c"]));
    await log.close();
    await receiver.close();
  });

  test("that were removed stay so when Kafka compacts the topic, and the others stand", async () => {
    const address = await declared("compacted");
    const topic = addressName(address);
    const admin = session.adapter.kafkajs().admin();
    await admin.connect();
    const eager = { "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "100" };
    const configEntries = Object.entries(eager).map(([name, value]) => ({ name, value }));
    const current = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] });
    const kept = (current.resources[0]?.configEntries ?? [])
      .filter(({ configSource, configName }) => Number(configSource) === 1 && !(configName in eager))
      .map(({ configName, configValue }) => ({ name: configName, value: configValue }));
    // It takes the place of all that was set before.
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name: topic, configEntries: [...kept, ...configEntries] }],
    });
    await send(address, ...Array.from({ length: 20 }, (_, index) => `m-${index}`));
    const first = await receive(address);
    await until("all", WAIT_MS, () => expect(first.kept).toHaveLength(20));
    await settle(first.receiver, first.kept.slice(0, 17));
    const log = openLog(address);
    let extra = 0;
    await until("the compaction", 100_000, async () => {
      // The segment that is written to is left alone; a new one begins when something is written.
      await send(address, `extra-${extra++}`);
      const piece = await log.read(await log.first(), 0);
      const offsets = piece === "out-of-range" ? [] : piece.records.map(({ offset }) => offset);
      expect(offsets).not.toContain(0);
      expect(offsets).toContain(17);
    });
    const extras = Array.from({ length: extra }, (_, index) => `extra-${index}`);
    await first.receiver.close();
    expect(await count(address)).toBe(3 + extra);
    const second = await receive(address);
    await until("what stands", WAIT_MS, () => expect(second.ids()).toEqual(["m-17", "m-18", "m-19", ...extras]));
    await settle(second.receiver, second.kept);
    await second.receiver.close();
    expect(await count(address)).toBe(0);
    await log.close();
    await admin.disconnect();
  }, 180_000);

  test("of a queue that is not there are refused", async () => {
    const address = { kind: "dead-letters", of: { kind: "queue", name: `${names.namePrefix}nowhere` } } as const;
    await expect(receive(address)).rejects.toMatchObject({ code: "not-found" });
    await expect(session.adapter.depth(address)).rejects.toMatchObject({ code: "not-found" });
  });
});

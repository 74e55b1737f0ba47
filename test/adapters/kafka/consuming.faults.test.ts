import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { controlsOrNotRun, describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { batchOf, connectionTo, coordinatorOf, makeTopics } from "./kafkajs/wire.ts";
import { type Consuming, openConsuming, textOf } from "./open-consuming.ts";

const WAIT_MS = 240_000;
const PARTITIONS = 4;
const MANY = 4_000;

describeKafka("consuming from a Kafka that fails", (broker) => {
  let place: Namespace;
  let wire: KafkaConnection;
  let topic: string;
  let group: string;
  let made = 0;
  const ends: (() => Promise<void>)[] = [];

  beforeAll(() => {
    place = broker.newNamespace();
  });
  afterAll(async () => {
    await place?.remove();
  });
  beforeEach(async () => {
    topic = `${place.namePrefix}orders${made}`;
    group = `${place.namePrefix}group${made++}`;
    wire = connectionTo(broker.brokers);
    await wire.connect();
    await makeTopics(wire, PARTITIONS, topic);
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    await wire?.close();
  });

  async function produce(...values: readonly string[]): Promise<void> {
    const { topics } = await wire.metadata([topic]);
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const own = values.filter((_, index) => index % PARTITIONS === partition);
      if (own.length === 0) continue;
      const leader = topics[0]?.partitions.find((led) => led.partition === partition)?.leader ?? -1;
      const [outcome] = await wire.produce(leader, [batchOf(topic, partition, ...own)], 10_000);
      expect(outcome?.error).toBeUndefined();
    }
  }

  const values = Array.from({ length: MANY }, (_, index) => `value ${index}`);

  async function consume(brokers = broker.brokers): Promise<Consuming> {
    const consuming = await openConsuming(brokers, { group, topics: [topic], prefetch: 50 });
    ends.push(() => consuming.consumer.close());
    return consuming;
  }

  /** Settles everything that comes, a few at a time, and writes down what was settled, and what came after that. */
  function work(consuming: Consuming) {
    const settled = new Set<string>();
    const handled = new Set<string>();
    const again: string[] = [];
    let isOver = false;
    const run = async (): Promise<void> => {
      for (let next = 0; !isOver; ) {
        const batch: readonly DeliveredRecord[] = consuming.held.slice(next, next + 10);
        next += batch.length;
        again.push(...batch.map(textOf).filter((value) => settled.has(value)));
        for (const held of batch) handled.add(textOf(held));
        const results = await consuming.settle(batch);
        for (const [index, result] of results.entries()) {
          if (result === "settled") settled.add(textOf(batch[index] as DeliveredRecord));
        }
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    };
    const running = run();
    ends.push(() => {
      isOver = true;
      return running;
    });
    const reached = (count: number) =>
      until(`${count} settled`, WAIT_MS, () => expect(settled.size).toBeGreaterThanOrEqual(count));
    // What is answered as fenced may be committed all the same, where the answer to that was lost; then it never comes again.
    const finished = () =>
      until("everything to be committed", WAIT_MS, async () => {
        const node = await coordinatorOf(wire, group);
        const wanted = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }));
        const { offsets } = await wire.fetchOffsets(node, group, wanted);
        expect(offsets.map(({ offset }) => offset)).toEqual(wanted.map(() => MANY / PARTITIONS));
        expect(handled.size).toBe(MANY);
      });
    return { again, reached, finished };
  }

  test("over restarts everything is settled, and what was settled does not come again", {
    timeout: 240_000,
  }, async (context) => {
    const controls = controlsOrNotRun(broker, context);
    await produce(...values);
    const consuming = await consume();
    const { again, reached, finished } = work(consuming);
    await reached(MANY / 8);
    await controls.restart();
    await reached(MANY / 2);
    await controls.kill();
    await controls.start();
    await finished();
    expect(again).toEqual([]);
  });

  test("over cut connections likewise", { timeout: 240_000 }, async (context) => {
    const { faultyLink } = broker;
    if (faultyLink === undefined) {
      context.skip("NOT RUN: the broker was given by URL, so that no link can be put in its way");
      return;
    }
    const link = await faultyLink();
    ends.push(() => link.close());
    await produce(...values);
    const consuming = await consume([new URL(link.through(broker.url)).host]);
    const { again, reached, finished } = work(consuming);
    for (let cuts = 1; cuts <= 6; cuts++) {
      await reached((MANY / 8) * cuts);
      link.cut();
    }
    await finished();
    expect(again).toEqual([]);
  });

  test("who is cut off for longer than its session loses what it holds, and gets it again with a crash", {
    timeout: 240_000,
  }, async (context) => {
    const controls = controlsOrNotRun(broker, context);
    await produce("one", "two", "three");
    const consuming = await consume();
    await until("three", WAIT_MS, () => expect(consuming.held).toHaveLength(3));
    await controls.pause();
    try {
      await until("the loss", WAIT_MS, () => expect(consuming.lost).toHaveLength(3));
    } finally {
      await controls.resume();
    }
    expect(await consuming.settle(consuming.held)).toEqual(["fenced", "fenced", "fenced"]);
    await until("them again", WAIT_MS, () => expect(consuming.held).toHaveLength(6));
    const again = consuming.held.slice(3);
    expect(again.map(({ crashes }) => crashes)).toEqual([1, 1, 1]);
    expect(await consuming.settle(again)).toEqual(["settled", "settled", "settled"]);
  });

  test("a broker that is away is told, and that it is back as well", { timeout: 240_000 }, async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const consuming = await consume();
    await produce("before");
    await until("the first", WAIT_MS, () => expect(consuming.held).toHaveLength(1));
    await consuming.settle(consuming.held);
    await controls.kill();
    try {
      await until("the trouble", WAIT_MS, () => expect(consuming.stalls.length).toBeGreaterThan(0));
    } finally {
      await controls.start();
    }
    await until("the end of it", WAIT_MS, () => expect(consuming.heard.flowing).toBe(1));
    await produce("after");
    await until("the second", WAIT_MS, () => expect(consuming.values()).toEqual(["before", "after"]));
  });
});

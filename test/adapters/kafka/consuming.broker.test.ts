import { Kafka, logLevel } from "kafkajs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ConsumerOptions } from "../../../adapters/kafka/consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { decodeProgress } from "../../../adapters/kafka/consuming/progress.ts";
import type { CommittedOffset, KafkaConnection } from "../../../adapters/kafka/port.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { batchOf, connectionTo, coordinatorOf, makeTopics, refusal } from "./kafkajs/wire.ts";
import { type Consuming, openConsuming, textOf } from "./open-consuming.ts";

const WAIT_MS = 240_000;
const PARTITIONS = 2;

describeKafka("consuming from Kafka", (broker) => {
  let place: Namespace;
  let wire: KafkaConnection;
  let topic: string;
  let group: string;
  let made = 0;
  const ends: Consuming[] = [];

  beforeAll(async () => {
    place = broker.newNamespace();
    wire = connectionTo(broker.brokers);
    await wire.connect();
  });
  afterAll(async () => {
    await wire?.close();
    await place?.remove();
  });
  beforeEach(async () => {
    topic = `${place.namePrefix}orders${made}`;
    group = `${place.namePrefix}group${made++}`;
    await makeTopics(wire, PARTITIONS, topic);
  });
  afterEach(async () => {
    await Promise.all(ends.splice(0).map(({ consumer }) => consumer.close()));
  });

  async function consume(options: Partial<ConsumerOptions> = {}): Promise<Consuming> {
    const consuming = await openConsuming(broker.brokers, { group, topics: [topic], ...options });
    ends.push(consuming);
    return consuming;
  }

  async function crash(consuming: Consuming): Promise<void> {
    ends.splice(ends.indexOf(consuming), 1);
    await consuming.kill();
  }

  async function close(consuming: Consuming): Promise<void> {
    ends.splice(ends.indexOf(consuming), 1);
    await consuming.consumer.close();
  }

  async function leader(): Promise<number> {
    const { topics } = await wire.metadata([topic]);
    return topics[0]?.partitions[0]?.leader ?? -1;
  }

  async function produce(partition: number, ...values: readonly string[]): Promise<void> {
    const [outcome] = await wire.produce(await leader(), [batchOf(topic, partition, ...values)], 10_000);
    expect(outcome?.error).toBeUndefined();
  }

  async function deleteTopic(): Promise<void> {
    const admin = new Kafka({ brokers: [...broker.brokers], logLevel: logLevel.NOTHING }).admin();
    await admin.connect();
    try {
      await admin.deleteTopics({ topics: [topic] });
    } finally {
      await admin.disconnect();
    }
    await until("the end of the topic", WAIT_MS, async () => {
      expect((await wire.metadata([topic])).topics[0]?.error).toBe("UNKNOWN_TOPIC_OR_PARTITION");
    });
  }

  async function committed(): Promise<readonly CommittedOffset[]> {
    const node = await coordinatorOf(wire, group);
    const wanted = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }));
    const { error, offsets } = await wire.fetchOffsets(node, group, wanted);
    expect(error).toBeUndefined();
    return offsets;
  }

  function came(consuming: Consuming, count: number): Promise<readonly DeliveredRecord[]> {
    return until(`${count} records`, WAIT_MS, () => {
      if (consuming.held.length < count) throw new Error(`${consuming.held.length} came: ${consuming.values()}`);
      return consuming.held;
    });
  }

  const values = (prefix: string, count: number): string[] =>
    Array.from({ length: count }, (_, at) => `${prefix}${at}`);

  test("everything comes in order, and what is settled is committed when it says so", async () => {
    await produce(0, ...values("a", 50));
    await produce(1, ...values("b", 50));
    const first = await consume();
    const all = await came(first, 100);
    const of = (partition: number) => all.filter((held) => held.partition === partition).map(textOf);
    expect([of(0), of(1)]).toEqual([values("a", 50), values("b", 50)]);
    expect(new Set(await first.settle(all))).toEqual(new Set(["settled"]));
    expect((await committed()).map(({ offset }) => offset)).toEqual([50, 50]);
    expect(await first.settle(all.slice(0, 1))).toEqual(["fenced"]);
    await close(first);
    const left = await committed();
    expect(left.map(({ offset, metadata }) => decodeProgress({ offset, metadata }).progress.watermark)).toEqual([
      50, 50,
    ]);

    await produce(0, "later");
    const second = await consume();
    expect((await came(second, 1)).map(textOf)).toEqual(["later"]);
    expect(second.held[0]?.crashes).toBe(0);
    expect(second.notices).toEqual([]);
  });

  test("a slow record holds up nothing but the commit before it", async () => {
    const consuming = await consume();
    await produce(0, ...values("a", 300));
    await produce(1, ...values("b", 300));
    const done = new Set<DeliveredRecord>();
    await until("all but the slow one", WAIT_MS, async () => {
      const open = consuming.held.filter((held) => !done.has(held) && textOf(held) !== "a0");
      for (const held of open) done.add(held);
      await consuming.settle(open);
      if (done.size < 599) throw new Error(`${done.size} are done`);
    });
    expect((await committed()).map(({ offset }) => offset)).toEqual([0, 300]);
    const slow = consuming.held.filter((held) => textOf(held) === "a0");
    expect(await consuming.settle(slow)).toEqual(["settled"]);
    expect((await committed()).map(({ offset }) => offset)).toEqual([300, 300]);
    expect(consuming.progressed.at(-1)).toEqual({ topic, partition: 0, offset: 300 });
  });

  test("after a crash exactly what was not settled comes again, and says so", async () => {
    await produce(0, ...values("a", 10));
    const first = await consume();
    const all = await came(first, 10);
    const done = all.filter((_, index) => index % 3 !== 0);
    await first.settle(done);
    await crash(first);

    const second = await consume();
    const again = await came(second, 4);
    expect(again.map(textOf)).toEqual(["a0", "a3", "a6", "a9"]);
    expect(again.map(({ crashes }) => crashes)).toEqual([1, 1, 1, 1]);
    await second.settle(again);
    expect((await committed())[0]?.offset).toBe(10);
  });

  test("after several crashes all that was held comes at once, from every partition", async () => {
    await produce(0, ...values("a", 3));
    await produce(1, ...values("b", 3));
    for (let crashes = 0; crashes < 3; crashes++) {
      const consuming = await consume();
      const held = await came(consuming, 6);
      expect(held.map(({ crashes }) => crashes)).toEqual(held.map(() => crashes));
      await crash(consuming);
    }
    const last = await consume();
    const held = await came(last, 6);
    expect(held.map(({ crashes }) => crashes)).toEqual([3, 3, 3, 3, 3, 3]);
    expect(last.values().sort()).toEqual([...values("a", 3), ...values("b", 3)]);
    expect(await last.settle(held)).toEqual(held.map(() => "settled"));
  });

  test("what is given back, or given up at the close, comes again without a crash", async () => {
    await produce(0, ...values("a", 4));
    const first = await consume({ prefetch: 2 });
    await came(first, 2);
    await first.settle(first.held.slice(0, 1), "requeue");
    await came(first, 3);
    expect(first.values()).toEqual(["a0", "a1", "a0"]);
    await close(first);
    expect(await first.settle(first.held.slice(1))).toEqual(["fenced", "fenced"]);

    const second = await consume();
    await came(second, 4);
    expect(second.held.map(({ crashes }) => crashes)).toEqual([0, 0, 0, 0]);
    expect(second.values()).toEqual(values("a", 4));
  });

  test("the prefetch is never exceeded, nor filled while it is 0", async () => {
    await produce(0, ...values("a", 100));
    await produce(1, ...values("b", 100));
    const consuming = await consume({ prefetch: 0 });
    await until("the assignment", WAIT_MS, async () => {
      if ((await committed()).some(({ offset }) => offset < 0)) throw new Error("nothing is committed yet");
    });
    expect(consuming.held).toEqual([]);
    consuming.consumer.prefetch(3);
    await came(consuming, 3);
    consuming.consumer.prefetch(7);
    await came(consuming, 7);
    expect(consuming.held).toHaveLength(7);
    for (let from = 0; from < 200; from += 7) {
      await came(consuming, Math.min(from + 7, 200));
      expect(consuming.held.length).toBeLessThanOrEqual(from + 7);
      await consuming.settle(consuming.held.slice(from, from + 7));
    }
  });

  test("two share the partitions: what moves is asked back, and nothing is done twice", async () => {
    await produce(0, ...values("a", 20));
    await produce(1, ...values("b", 20));
    const first = await consume();
    await came(first, 40);
    // Resolves when it has its share.
    const joining = consume();
    await until("a revoke", WAIT_MS, () => {
      if (first.revoked.length === 0) throw new Error("nothing was asked back");
    });
    const moved = first.revoked[0]?.partition;
    const revoked = [...first.revoked];
    const [kept, released] = [revoked.slice(0, 5), revoked.slice(5)];
    await first.settle(released, "requeue");
    expect(new Set(await first.settle(kept))).toEqual(new Set(["settled"]));
    const second = await joining;
    await came(second, 15);
    expect(second.held.map(({ partition }) => partition)).toEqual(second.held.map(() => moved));
    expect(second.held.map((held) => held.record.offset)).toEqual(released.map((held) => held.record.offset));
    expect(second.held.every(({ crashes }) => crashes === 0)).toBe(true);
    expect(first.lost).toEqual([]);
    const rest = first.held.filter((held) => held.partition !== moved);
    expect(new Set(await first.settle(rest))).toEqual(new Set(["settled"]));
  });

  test("records deleted before they were read are reported, and the earliest that is kept is next", async () => {
    await produce(0, ...values("a", 10));
    const first = await consume();
    await first.settle((await came(first, 10)).slice(0, 2));
    await close(first);
    await produce(0, ...values("later", 10));
    const [outcome] = await wire.deleteRecords(await leader(), [{ topic, partition: 0, offset: 15 }]);
    expect(outcome?.error).toBeUndefined();

    const second = await consume();
    await came(second, 5);
    expect(second.values()).toEqual(["later5", "later6", "later7", "later8", "later9"]);
    expect(second.notices.map(({ code }) => code)).toEqual(["conflict"]);
    expect(second.notices[0]?.message).toContain("13 offsets were deleted before they were read");
    await second.settle(second.held);
    expect((await committed())[0]?.offset).toBe(20);
  });

  test("an offset beyond the end is reported, and the earliest that is kept is next", async () => {
    await produce(0, ...values("a", 3));
    const node = await coordinatorOf(wire, group);
    const commit = {
      group,
      memberId: "",
      generation: -1,
      offsets: [{ topic, partition: 0, offset: 90, metadata: "" }],
    };
    expect((await wire.commitOffsets(node, commit))[0]?.error).toBeUndefined();
    const consuming = await consume();
    await came(consuming, 3);
    expect(consuming.notices.map(({ code }) => code)).toEqual(["conflict"]);
    expect(consuming.notices[0]?.message).toContain("from offset 90 and ends at 3");
    await consuming.settle(consuming.held);
    expect((await committed())[0]?.offset).toBe(3);
  });

  test("a foreign commit's offset is taken, whatever stands beside it", async () => {
    await produce(0, ...values("a", 5));
    const node = await coordinatorOf(wire, group);
    const metadata = "anybroker:9:from the future";
    const commit = { group, memberId: "", generation: -1, offsets: [{ topic, partition: 0, offset: 2, metadata }] };
    expect((await wire.commitOffsets(node, commit))[0]?.error).toBeUndefined();
    const consuming = await consume();
    await came(consuming, 3);
    expect(consuming.values()).toEqual(["a2", "a3", "a4"]);
    expect(consuming.notices.map(({ code }) => code)).toEqual(["invalid"]);
  });

  test("a topic made again while it is read is read from its beginning", { timeout: 180_000 }, async () => {
    await produce(0, ...values("a", 5));
    const consuming = await consume();
    await consuming.settle(await came(consuming, 5));
    await deleteTopic();
    await makeTopics(wire, PARTITIONS, topic);
    await produce(0, "new");
    await came(consuming, 6);
    expect(consuming.values().at(-1)).toBe("new");
    await consuming.settle(consuming.held.slice(5));
    expect((await committed())[0]?.offset).toBe(1);
  });

  test("a topic that does not exist is refused", async () => {
    const error = await refusal(openConsuming(broker.brokers, { group, topics: [`${topic}.missing`] }));
    expect(error.code).toBe("not-found");
    expect(error.message).toContain(`${topic}.missing`);
  });

  test("what is not wanted is passed over, and counts as done", async () => {
    await produce(0, ...values("a", 10));
    const consuming = await consume({ wanted: ({ offset }) => offset % 5 === 0 });
    await consuming.settle(await came(consuming, 2));
    expect(consuming.values()).toEqual(["a0", "a5"]);
    await until("the end to be committed", WAIT_MS, async () => expect((await committed())[0]?.offset).toBe(10));
  });
});

import { afterAll, beforeAll, expect, test } from "vitest";
import { topicName } from "../../../adapters/kafka/names.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { QUARANTINE_KEPT_MS, type Topology } from "../../../core/adapter.ts";
import type { WorkAddress } from "../../../core/address.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { connectionTo, deleteTopic, makeTopics } from "./kafkajs/wire.ts";
import { openAdapter } from "./open-adapter.ts";

const logName = (of: WorkAddress): string => topicName({ kind: "quarantine", of });

describeKafka("quarantine logs on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  let one: Awaited<ReturnType<typeof openAdapter>>;
  let other: Awaited<ReturnType<typeof openAdapter>>;
  let wire: KafkaConnection;

  beforeAll(async () => {
    [one, other] = [await openAdapter({ brokers: broker.brokers }), await openAdapter({ brokers: broker.brokers })];
    wire = connectionTo(broker.brokers);
  });

  afterAll(async () => {
    await wire?.close();
    await one?.adapter.close();
    await other?.adapter.close();
    await names.remove();
  });

  const declared = async (name: string, ordered = false): Promise<WorkAddress> => {
    const queue = workQueue(named(name), { ordered });
    expect(await one.adapter.declare(topology({ queues: [queue] }))).toEqual([]);
    return queue.address;
  };

  test("hold what several processes appended, for each that reads, right after it was confirmed", async () => {
    const of = await declared("shared");
    const [here, there] = [one.adapter.quarantine(of), other.adapter.quarantine(of)];
    expect(await here.read()).toEqual([]);
    expect(await there.read()).toEqual([]);
    for (let round = 0; round < 5; round++) {
      await here.append(`a-${round}`);
      expect(await there.read()).toContain(`a-${round}`);
      await there.append(`b-${round} – ü`);
      expect(await here.read()).toContain(`b-${round} – ü`);
    }
    const all = [0, 1, 2, 3, 4].flatMap((round) => [`a-${round}`, `b-${round} – ü`]);
    expect(await here.read()).toEqual(all);
    expect(await one.adapter.depth(of)).toMatchObject({ ready: 0 });
    expect(await one.adapter.depth({ kind: "quarantine", of })).toMatchObject({ ready: 0 });
  });

  test("are read by several at once, each to the end, over many batches and pieces", async () => {
    const of = await declared("many");
    const filling = "x".repeat(2_000);
    const wanted: string[] = [];
    for (let batch = 0; batch < 20; batch++) {
      const some = Array.from({ length: 80 }, (_, index) => `${batch}-${index} ${filling}`);
      const log = (batch % 2 === 0 ? one : other).adapter.quarantine(of);
      await Promise.all(some.map((record) => log.append(record)));
      wanted.push(...some);
    }
    const readers = [one, other, one, other].map(({ adapter }) => adapter.quarantine(of).read());
    for (const read of await Promise.all(readers)) expect([...read].sort()).toEqual([...wanted].sort());
  });

  test("are read while others append, without a record that was confirmed before missing", async () => {
    const of = await declared("busy");
    const confirmed: string[] = [];
    let isOver = false;
    const appending = (async () => {
      for (let index = 0; !isOver; index++) {
        await other.adapter.quarantine(of).append(`${index}`);
        confirmed.push(`${index}`);
      }
    })();
    for (let round = 0; round < 20; round++) {
      const before = [...confirmed];
      expect(await one.adapter.quarantine(of).read()).toEqual(expect.arrayContaining(before));
    }
    isOver = true;
    await appending;
    expect(await one.adapter.quarantine(of).read()).toEqual(confirmed);
  });

  test("stand beside every queue and subscription, ordered or not, as small topics that Kafka deletes by age", async () => {
    const queues = [workQueue(named("plain")), workQueue(named("ordered"), { ordered: true })];
    const subscriptions = ["s", "t"].map((name) => ({
      ...subscriptionOf(named("events"), name),
      ordered: name === "t",
    }));
    const all: Partial<Topology> = { queues, subscriptions };
    expect(await one.adapter.declare(topology(all))).toEqual([]);
    expect(await one.adapter.declare(topology({ ...all, mode: "verify" }))).toEqual([]);
    const logs = [...queues, ...subscriptions].map(({ address }) => logName(address));
    const settings = ["cleanup.policy", "retention.ms", "retention.bytes", "segment.bytes", "message.timestamp.type"];
    const configurations = await wire.topicConfigurations(logs, settings);
    expect(configurations).toHaveLength(4);
    for (const { values } of configurations) {
      expect(Object.fromEntries(values)).toEqual({
        "cleanup.policy": "delete",
        "retention.ms": String(QUARANTINE_KEPT_MS),
        "retention.bytes": "-1",
        "segment.bytes": String(1024 * 1024),
        "message.timestamp.type": "LogAppendTime",
      });
    }
    const { topics } = await wire.metadata(logs);
    expect(topics.map(({ partitions }) => partitions.length)).toEqual([1, 1, 1, 1]);
  });

  test("are verified, and removed with what they belong to", async () => {
    const remover = await openAdapter({ brokers: broker.brokers });
    const queue = workQueue(named("removed"));
    const given = topology({ queues: [queue] });
    const first = await openAdapter({ brokers: broker.brokers });
    expect(await first.adapter.declare(given)).toEqual([]);
    const log = first.adapter.quarantine(queue.address);
    await log.append("a");
    await first.adapter.close();
    await remover.adapter.remove(given);
    await until("the topic to be gone", 30_000, async () => {
      const problems = await remover.adapter.declare({ ...given, mode: "verify" });
      const told = problems.map((problem) => problem.message).join();
      expect(told).toContain(`"${logName(queue.address)}" (quarantine log of queue "${queue.address.name}")`);
      await expect(remover.adapter.quarantine(queue.address).read()).rejects.toMatchObject({ code: "not-found" });
    });
    await expect(remover.adapter.quarantine(queue.address).append("b")).rejects.toMatchObject({ code: "not-found" });
    await remover.adapter.close();
  });

  test("that would forget too soon, or keep several orders, are a conflict", async () => {
    const queue = workQueue(named("wrong"));
    await makeTopics(wire, 2, logName(queue.address));
    const admin = one.adapter.kafkajs().admin();
    await admin.connect();
    const configEntries = [{ name: "retention.ms", value: "60000" }];
    const resources = [{ type: 2, name: logName(queue.address), configEntries }];
    await admin.alterConfigs({ validateOnly: false, resources });
    await admin.disconnect();
    await until("both faults", 30_000, async () => {
      const problems = await other.adapter.declare(topology({ queues: [queue] }));
      expect(problems.map(({ code }) => code)).toEqual(["conflict", "conflict"]);
      const told = problems.map((problem) => problem.message).join();
      expect(told).toContain("has 2 partitions where there must be 1");
      expect(told).toContain("retention.ms=60000");
    });
  });

  test("that somebody deleted are made again where they were declared", async () => {
    const of = await declared("deleted");
    const log = one.adapter.quarantine(of);
    await log.append("a");
    const admin = one.adapter.kafkajs().admin();
    await admin.connect();
    await deleteTopic(wire, admin, logName(of));
    await admin.disconnect();
    await until("a record in the new one", 60_000, async () => {
      await log.append("b");
      expect(await log.read()).toContain("b");
    });
    expect(await log.read()).not.toContain("a");
    expect(one.notices.map((notice) => notice.message).join()).toContain(`"${logName(of)}"`);
  });

  test("are for records, not for messages", async () => {
    const of = await declared("apart");
    const [result] = await one.send({ kind: "quarantine", of }, message("m"));
    expect(result).toMatchObject({ status: "rejected", error: { code: "unsupported" } });
    expect(await one.adapter.quarantine(of).read()).toEqual([]);
  });

  test("are read from their beginning where Kafka deleted what was older", async () => {
    const of = await declared("aged");
    const log = one.adapter.quarantine(of);
    for (const record of ["a", "b", "c"]) await log.append(record);
    const { topics } = await wire.metadata([logName(of)]);
    const leader = topics[0]?.partitions[0]?.leader ?? -1;
    const [deleted] = await wire.deleteRecords(leader, [{ topic: logName(of), partition: 0, offset: 2 }]);
    expect(deleted?.error).toBeUndefined();
    expect(await log.read()).toEqual(["c"]);
    const [emptied] = await wire.deleteRecords(leader, [{ topic: logName(of), partition: 0, offset: 3 }]);
    expect(emptied?.error).toBeUndefined();
    expect(await log.read()).toEqual([]);
    await log.append("d");
    expect(await log.read()).toEqual(["d"]);
  });

  test("go with the adapter, and are there again when it is opened again", async () => {
    const of = await declared("reopened");
    const own = await openAdapter({ brokers: broker.brokers });
    const log = own.adapter.quarantine(of);
    await log.append("a");
    await own.adapter.close();
    await expect(log.append("b")).rejects.toMatchObject({ code: "closed" });
    await expect(log.read()).rejects.toMatchObject({ code: "closed" });
    expect(await one.adapter.quarantine(of).read()).toEqual(["a"]);
  });
});

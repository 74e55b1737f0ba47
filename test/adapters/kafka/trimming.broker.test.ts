import { type Admin, type Consumer, Kafka, logLevel } from "kafkajs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Cluster } from "../../../adapters/kafka/cluster.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { topicName } from "../../../adapters/kafka/names.ts";
import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { GroupPositions } from "../../../adapters/kafka/topology/positions.ts";
import { otherGroups, ownGroup, slowestPositions, Trimmer } from "../../../adapters/kafka/topology/trimmer.ts";
import type { QueueAddress } from "../../../core/address.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { topicId } from "../../kafka/topic-ids.ts";
import { message, topology, workQueue } from "../seam-values.ts";
import { coordinatorOf, idOf, makeAgain } from "./kafkajs/wire.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";
import { alterShareOffset, OtherMember } from "./other-members.ts";

const WAIT_MS = 240_000;

describeKafka("deleting what is handled on Kafka", (broker) => {
  const names = broker.newNamespace();
  let session: Awaited<ReturnType<typeof openAdapter>>;
  let admin: Admin;
  let wire: KafkaConnection;
  let cluster: Cluster;
  const ends: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers, partitions: 1 });
    admin = session.adapter.kafkajs().admin();
    await admin.connect();
    const timeouts = { connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 };
    wire = kafkaJsClient({ brokers: broker.brokers, clientId: "trimming", ...timeouts }).connection();
    cluster = new Cluster(wire, 10_000, new AbortController().signal);
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  afterAll(async () => {
    await admin?.disconnect();
    await wire?.close();
    await session?.adapter.close();
    await names.remove();
  });

  /** A queue with so many messages, all of them handled. */
  async function handled(name: string, count: number): Promise<QueueAddress> {
    const { address } = workQueue(names.namePrefix + name);
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 1_000, ordered: false }, sink);
    ends.push(() => receiver.close());
    await session.send(address, ...Array.from({ length: count }, (_, index) => message(`m-${index}`)));
    await until("all", WAIT_MS, () => expect(kept).toHaveLength(count));
    await receiver.settle(kept.map(({ token }) => ({ token, action: "ack" })));
    return address;
  }

  const slow = () => undefined;

  /** Deletes what may be deleted, again and again. */
  function trim(address: QueueAddress) {
    const name = topicName(address);
    const notices: MessagingError[] = [];
    const bounds = [ownGroup(cluster), otherGroups(new GroupPositions(wire), slow)];
    const trimmer = new Trimmer(cluster, bounds, (error) => notices.push(error), { everyMs: 20 });
    const timer = setInterval(() => trimmer.progressed(name, { topic: name, partition: 0, offset: 1 }), 10);
    ends.push(async () => {
      clearInterval(timer);
      trimmer.close();
    });
    return notices;
  }

  const low = async (address: QueueAddress) => Number((await admin.fetchTopicOffsets(topicName(address)))[0]?.low);

  /** What a plain client of another library reads from the beginning, as far as it comes. */
  async function plainGroup(groupId: string, address: QueueAddress, most = Number.POSITIVE_INFINITY) {
    const client = new Kafka({ brokers: [...broker.brokers], clientId: "plain", logLevel: logLevel.NOTHING });
    const consumer: Consumer = client.consumer({ groupId });
    const offsets: number[] = [];
    await consumer.connect();
    await consumer.subscribe({ topics: [topicName(address)], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ topic, partition, message: { offset } }) => {
        if (offsets.length >= most) return;
        offsets.push(Number(offset));
        await consumer.commitOffsets([{ topic, partition, offset: `${Number(offset) + 1}` }]);
      },
    });
    return { offsets, leave: () => consumer.disconnect() };
  }

  test("leaves what a group of another library has not read, also while it is away", async () => {
    const address = await handled("shared", 20);
    const group = `${names.namePrefix}plain`;
    const first = await plainGroup(group, address, 5);
    await until("five", WAIT_MS, () => expect(first.offsets).toHaveLength(5));
    await first.leave();
    const notices = trim(address);
    await until("the log to begin at what is left", WAIT_MS, async () => expect(await low(address)).toBe(5));
    const again = await plainGroup(group, address);
    ends.push(again.leave);
    await until("the rest", WAIT_MS, () => expect(again.offsets).toEqual(Array.from({ length: 15 }, (_, n) => n + 5)));
    await until("the log to be empty", WAIT_MS, async () => expect(await low(address)).toBe(20));
    // Groups of others come and go just then.
    expect(notices.filter(({ code }) => code !== "unreachable")).toEqual([]);
  });

  test("leaves what a share group has not read", async () => {
    const address = await handled("share", 10);
    const group = `${names.namePrefix}sharing`;
    const member = await OtherMember.join(broker.brokers[0] ?? "", "share", group, [topicName(address)]);
    expect(member.error).toBeUndefined();
    await member.close();
    await until("the offset of the share group", WAIT_MS, async () => {
      expect(await alterShareOffset(broker.brokers[0] ?? "", group, topicName(address), 3)).toBeUndefined();
    });
    trim(address);
    await until("the log to begin at what is left", WAIT_MS, async () => expect(await low(address)).toBe(3));
    await until("nothing more to be deleted", WAIT_MS, async () => {
      const place = {
        topic: topicName(address),
        topicId: await idOf(wire, topicName(address)),
        partition: 0,
        group: topicName(address),
      };
      const bounds = [ownGroup(cluster), otherGroups(new GroupPositions(wire), slow)];
      expect(await slowestPositions([place], bounds)).toEqual([3]);
    });
  });

  test("of a topic that was made again goes by nothing that was said of the one before", async () => {
    const address = await handled("again", 10);
    const at = { topic: topicName(address), partition: 0 };
    const before = { ...at, topicId: await idOf(wire, topicName(address)), group: topicName(address) };
    const bounds = [ownGroup(cluster), otherGroups(new GroupPositions(wire), slow)];
    await until("the commit", WAIT_MS, async () => expect(await slowestPositions([before], bounds)).toEqual([10]));
    const [stale] = await cluster.committed(topicName(address), [at]);
    for (const end of ends.splice(0)) await end();
    await makeAgain(wire, admin, topicName(address));
    const now = { ...before, topicId: await idOf(wire, topicName(address)) };
    await until("new messages", WAIT_MS, async () => {
      const results = await session.send(address, ...Array.from({ length: 20 }, (_, n) => message(`n-${n}`)));
      expect(results.map(({ status }) => status)).toEqual(results.map(() => "confirmed"));
    });
    // A commit that came late.
    const node = await coordinatorOf(wire, topicName(address));
    const late = { ...at, offset: stale?.offset ?? -1, metadata: stale?.metadata ?? "" };
    await wire.commitOffsets(node, { group: topicName(address), memberId: "", generation: -1, offsets: [late] });
    expect(await slowestPositions([now], bounds)).toEqual([0]);
    await expect(cluster.deleteRecords([{ ...before, offset: 10 }])).rejects.toMatchObject({ code: "conflict" });
    const odd = { ...before, topicId: topicId("no such topic"), offset: 10 };
    await expect(cluster.deleteRecords([odd])).rejects.toMatchObject({ code: "conflict" });
    expect(await low(address)).toBe(0);
  });
});

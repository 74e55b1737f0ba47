import { expect, test } from "vitest";
import { PartitionLog } from "../../../adapters/kafka/dead-letters/partition-log.ts";
import type { FetchedFrom, FetchedPartition, KafkaConnection } from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { CLUSTER_ID, topicId } from "../topic-ids.ts";

const PLACE = { topic: "orders.dlq", partition: 0 };
const UNREACHABLE = new MessagingError("unreachable", "the connection broke");

/** A cluster of two brokers, of which one leads. */
class FakeCluster {
  leader = 1;
  /** How many topics of the name there have been. */
  life = 1;
  topicError: string | undefined;
  fetchErrors: (string | MessagingError)[] = [];
  fetched: Partial<FetchedPartition> = {};
  asked: number[] = [];
  lookups = 0;
  isClosed = false;

  connection(): KafkaConnection {
    const connection: Partial<KafkaConnection> = {
      metadata: async () => {
        this.lookups++;
        const partitions = [{ partition: 0, error: undefined, leader: this.leader, replicas: 1 }];
        const topic = { topic: PLACE.topic, id: topicId(PLACE.topic, this.life), error: this.topicError, partitions };
        const topics = [this.topicError === undefined ? topic : { ...topic, partitions: [] }];
        return { clusterId: CLUSTER_ID, nodes: [1, 2], topics };
      },
      listOffsets: async (node, [wanted]) => [
        { ...PLACE, ...this.#answer(node), offset: wanted?.at === "latest" ? 30 : 17 },
      ],
      fetch: async (node, { partitions: [wanted] }) => [
        {
          ...PLACE,
          ...this.#answer(node, wanted),
          highWatermark: 30,
          lastStableOffset: 25,
          logStartOffset: 0,
          abortedTransactions: [],
          records: Buffer.alloc(0),
          ...this.fetched,
        },
      ],
      close: async () => {
        this.isClosed = true;
      },
    };
    return connection as KafkaConnection;
  }

  #answer(node: number, wanted?: FetchedFrom): { readonly error: string | undefined } {
    this.asked.push(node);
    const error = this.fetchErrors.shift();
    if (error instanceof MessagingError) throw error;
    return { error: error ?? this.#refusal(node, wanted) };
  }

  #refusal(node: number, wanted?: FetchedFrom): string | undefined {
    if (wanted !== undefined && wanted.topicId !== topicId(PLACE.topic, this.life)) return "UNKNOWN_TOPIC_ID";
    if (node !== this.leader) return "NOT_LEADER_FOR_PARTITION";
    return (wanted?.offset ?? 0) > 30 ? "OFFSET_OUT_OF_RANGE" : undefined;
  }
}

function world() {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const cluster = new FakeCluster();
  const log = new PartitionLog(PLACE, {
    connection: cluster.connection(),
    decode: (_bytes, { from }) => ({ records: [], nextOffset: from + 1, unreadable: undefined }),
    clock,
    patienceMs: 5_000,
  });

  async function run<Result>(promise: Promise<Result>): Promise<Result> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    promise.then(end, end);
    await time.until(() => isOver, Number.POSITIVE_INFINITY);
    return promise;
  }
  return { time, clock, cluster, log, run };
}

test("it is read at its leader, who is looked up once", async () => {
  const { cluster, log, run } = world();
  expect(await run(log.first())).toBe(17);
  expect(await run(log.read(5, 100))).toEqual({
    records: [],
    nextOffset: 6,
    end: 25,
    openTransaction: true,
    unreadable: undefined,
  });
  expect(cluster.lookups).toBe(1);
  cluster.fetched = { lastStableOffset: -1 };
  expect(await run(log.read(5, 100))).toMatchObject({ end: 30, openTransaction: false });
  expect(await run(log.end())).toBe(30);
});

test("it follows its leader", async () => {
  const { cluster, log, run } = world();
  await run(log.first());
  cluster.leader = 2;
  expect(await run(log.first())).toBe(17);
  // Each time it is made sure first that the node has the log of this very topic.
  expect(cluster.asked).toEqual([1, 1, 1, 2, 2]);
});

test("of a topic that was deleted and made again nothing is read in place of what is gone", async () => {
  const { cluster, log, run } = world();
  await run(log.first());
  const before = log.topicId;
  expect(await run(log.read(5, 100))).toMatchObject({ end: 25 });
  cluster.life++;
  expect(await run(log.read(6, 100))).toBe("out-of-range");
  expect(log.topicId).toBe(before);
  expect(await run(log.first())).toBe(17);
  expect(log.topicId).not.toBe(before);
  expect(await run(log.read(17, 100))).toMatchObject({ end: 25 });
});

test("what stands for a topic by name is not believed until its leader has the very topic", async () => {
  const { cluster, log, run } = world();
  cluster.fetchErrors = ["INCONSISTENT_TOPIC_ID", "UNKNOWN_TOPIC_ID"];
  expect(await run(log.first())).toBe(17);
  expect(cluster.asked).toEqual([1, 1, 1, 1]);
});

test("what breaks is tried again for a while, then it rejects", async () => {
  const { time, clock, cluster, log, run } = world();
  cluster.fetchErrors = [UNREACHABLE, "NOT_LEADER_FOR_PARTITION", "UNKNOWN_TOPIC_OR_PARTITION"];
  expect(await run(log.first())).toBe(17);
  cluster.leader = -1;
  cluster.fetchErrors = [UNREACHABLE];
  await expect(run(log.first())).rejects.toMatchObject({ code: "unreachable" });
  expect(time.now).toBeGreaterThan(3_000);
  expect(time.now).toBeLessThan(7_000);
  expect(clock.pending).toBe(0);
});

test("an offset out of range is an answer", async () => {
  const { cluster, log, run } = world();
  cluster.fetchErrors = ["OFFSET_OUT_OF_RANGE"];
  expect(await run(log.read(5, 100))).toBe("out-of-range");
});

test("what no try can help is said at once", async () => {
  const { cluster, log, run } = world();
  cluster.fetchErrors = ["TOPIC_AUTHORIZATION_FAILED"];
  await expect(run(log.read(5, 100))).rejects.toMatchObject({ code: "unauthorized" });
  const other = world();
  other.cluster.topicError = "UNKNOWN_TOPIC_OR_PARTITION";
  await expect(other.run(other.log.first())).rejects.toMatchObject({ code: "not-found" });
  expect(other.cluster.lookups).toBe(1);
});

test("closing ends what is being tried", async () => {
  const { clock, cluster, log, run } = world();
  cluster.leader = -1;
  const reading = log.read(5, 100);
  reading.catch(() => {});
  await new Promise((resolve) => setImmediate(resolve));
  await log.close();
  await expect(run(reading)).rejects.toMatchObject({ code: "closed" });
  expect(clock.pending).toBe(0);
  expect(cluster.isClosed).toBe(true);
});

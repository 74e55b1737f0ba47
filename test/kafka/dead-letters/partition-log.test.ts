import { expect, test } from "vitest";
import { PartitionLog } from "../../../adapters/kafka/dead-letters/index.ts";
import type { FetchedPartition, KafkaConnection } from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";

const PLACE = { topic: "orders.dlq", partition: 0 };
const UNREACHABLE = new MessagingError("unreachable", "the connection broke");

/** A cluster of two brokers, of which one leads. */
class FakeCluster {
  leader = 1;
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
        const topic = { topic: PLACE.topic, error: this.topicError, partitions };
        return { brokers: 2, topics: [this.topicError === undefined ? topic : { ...topic, partitions: [] }] };
      },
      listOffsets: async (node) => [{ ...PLACE, ...this.#answer(node), offset: 17 }],
      fetch: async (node) => [
        {
          ...PLACE,
          ...this.#answer(node),
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

  #answer(node: number): { readonly error: string | undefined } {
    this.asked.push(node);
    const error = this.fetchErrors.shift();
    if (error instanceof MessagingError) throw error;
    return { error: error ?? (node === this.leader ? undefined : "NOT_LEADER_FOR_PARTITION") };
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
  expect(await run(log.read(5, 100))).toEqual({ records: [], nextOffset: 6, end: 25, unreadable: undefined });
  expect(cluster.lookups).toBe(1);
  cluster.fetched = { lastStableOffset: -1 };
  expect(await run(log.read(5, 100))).toMatchObject({ end: 30 });
});

test("it follows its leader", async () => {
  const { cluster, log, run } = world();
  await run(log.first());
  cluster.leader = 2;
  expect(await run(log.first())).toBe(17);
  expect(cluster.asked).toEqual([1, 1, 2]);
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

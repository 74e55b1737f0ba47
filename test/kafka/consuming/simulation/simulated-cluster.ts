import { partitionKey } from "../../../../adapters/kafka/names.ts";
import type {
  ClusterMetadata,
  FetchedPartition,
  FetchRequest,
  KafkaClient,
  KafkaConnection,
  ListedOffset,
  TopicId,
  WantedOffset,
} from "../../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../../core/errors.ts";
import type { Prng } from "../../../simulation/prng.ts";
import type { VirtualTime } from "../../../simulation/virtual-time.ts";
import { CLUSTER_ID } from "../../topic-ids.ts";
import { Pieces, type SimulatedLog } from "./simulated-log.ts";

const MAX_HANG_MS = 60_000;

/** How often things go wrong. */
export interface Faults {
  /** That a request gets no answer, whether it was done or not. */
  readonly unanswered: number;
  /** That a request hangs for a minute. */
  readonly hangs: number;
  /** That a broker refuses for a partition for a moment. */
  readonly refused: number;
}

/** Logs, and the connections onto them. */
export class SimulatedCluster {
  readonly pieces = new Pieces();
  readonly logs = new Map<string, SimulatedLog>();
  readonly time: VirtualTime;
  readonly prng: Prng;
  faults: Faults = { unanswered: 0, hangs: 0, refused: 0 };
  /** Nothing goes wrong any more. */
  calm = false;
  #waiting = new Set<() => void>();

  constructor(time: VirtualTime, prng: Prng) {
    this.time = time;
    this.prng = prng;
  }

  /** Something was appended. */
  stir(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const look of waiting) look();
  }

  /** Looks again at the next append, or after some time. */
  later(look: () => void, ms: number): void {
    let looked = false;
    const once = (): void => {
      if (looked) return;
      looked = true;
      this.#waiting.delete(once);
      look();
    };
    this.#waiting.add(once);
    this.time.schedule(once, ms);
  }

  /** A client whose answers do not come once `isDead`. */
  client(isDead: () => boolean): KafkaClient {
    return { connection: () => this.#connection(isDead) };
  }

  #connection(isDead: () => boolean): KafkaConnection {
    const open = { closed: false, rejects: new Set<(error: MessagingError) => void>() };
    const broken = (): MessagingError => new MessagingError("unreachable", "the connection broke");
    const request = <Answer>(answer: () => Answer | Promise<Answer>): Promise<Answer> =>
      new Promise((resolve, reject) => {
        if (open.closed) {
          reject(broken());
          return;
        }
        open.rejects.add(reject);
        const end = (run: () => void): void => {
          open.rejects.delete(reject);
          if (!isDead()) run();
        };
        const { unanswered, hangs } = this.faults;
        if (this.prng.chance(hangs)) {
          this.time.schedule(() => end(() => reject(new MessagingError("timeout", "no answer"))), MAX_HANG_MS);
          return;
        }
        const fails = this.prng.chance(unanswered);
        this.time.schedule(
          async () => {
            if (fails) {
              end(() => reject(broken()));
              return;
            }
            const found = await answer();
            this.time.schedule(() => end(() => resolve(found)), this.prng.between(0, 3));
          },
          this.prng.between(0, 3),
        );
      });
    const connection: Partial<KafkaConnection> = {
      connect: () => request(() => {}),
      close: () => {
        open.closed = true;
        for (const reject of open.rejects) if (!isDead()) reject(broken());
        return Promise.resolve();
      },
      metadata: (topics) => request(() => this.#metadata(topics)),
      fetch: (node, wanted) => request(() => this.#fetch(node, wanted)),
      listOffsets: (node, wanted) => request(() => wanted.map((one) => this.#list(node, one))),
    };
    return connection as KafkaConnection;
  }

  #metadata(topics: readonly string[]): ClusterMetadata {
    return {
      clusterId: CLUSTER_ID,
      nodes: [1, 2],
      topics: topics.map((topic) => {
        const logs = [...this.logs.values()].filter((log) => log.topic === topic);
        const partitions = logs.map(({ partition, leader }) => ({ partition, leader, error: undefined, replicas: 1 }));
        const id = logs[0]?.topicId ?? "";
        const error = partitions.length === 0 ? "UNKNOWN_TOPIC_OR_PARTITION" : undefined;
        return { topic, id, error, partitions };
      }),
    };
  }

  #refusal(node: number, log: SimulatedLog | undefined, topicId?: TopicId): string | undefined {
    if (log === undefined) return topicId === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : "UNKNOWN_TOPIC_ID";
    if (topicId !== undefined && log.topicId !== topicId) {
      return this.prng.pick(["UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID"]);
    }
    if (log.leader !== node) return "NOT_LEADER_FOR_PARTITION";
    return this.prng.chance(this.faults.refused) ? this.prng.pick(["UNKNOWN", "KAFKA_STORAGE_ERROR"]) : undefined;
  }

  #fetch(node: number, { maxWaitMs, partitions }: FetchRequest): Promise<readonly FetchedPartition[]> {
    const until = this.time.now + maxWaitMs;
    const look = (): readonly FetchedPartition[] =>
      partitions.map(({ topic, topicId, partition, offset, maxBytes }) => {
        const log = this.logs.get(partitionKey({ topic, partition }));
        const error = this.#refusal(node, log, topicId);
        if (log !== undefined && error === undefined) return log.fetch(offset, maxBytes, this.pieces, this.prng);
        const nothing = { highWatermark: -1, lastStableOffset: -1, logStartOffset: -1, abortedTransactions: [] };
        return { topic, partition, error, ...nothing, records: Buffer.alloc(0) };
      });
    return new Promise((resolve) => {
      const attempt = (): void => {
        const found = look();
        const isEmpty = found.every(({ error, records }) => error === undefined && records.length === 0);
        if (!isEmpty || this.time.now >= until) resolve(found);
        else this.later(attempt, until - this.time.now);
      };
      attempt();
    });
  }

  #list(node: number, { topic, partition, at }: WantedOffset): ListedOffset {
    const log = this.logs.get(partitionKey({ topic, partition }));
    const error = this.#refusal(node, log);
    const offset = (at === "earliest" ? log?.start : log?.end) ?? -1;
    return { topic, partition, error, offset: error === undefined ? offset : -1 };
  }
}

import type {
  ClusterMetadata,
  KafkaConnection,
  PartitionBatch,
  ProduceOutcome,
  ProducerIdentity,
  TopicId,
  TopicMetadata,
} from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { VirtualTime } from "../../simulation/virtual-time.ts";
import { CLUSTER_ID, topicId } from "../topic-ids.ts";
import { FakePartition } from "./fake-partition.ts";

/**
 * What befalls a request: `answered` is none; `lost` never arrives; `unanswered` is done, and the answer lost; `late` is
 * done only after it was given up; an error is what every partition answers, done or not.
 */
export type Fate = "answered" | "lost" | "late" | "unanswered" | { readonly error: string; readonly isDone?: boolean };

const ANSWER_MS = 1;

/** A topic of a {@link FakeCluster}. */
export interface FakeTopic {
  readonly id: TopicId;
  readonly partitions: FakePartition[];
  mostBytes: number;
}

/** A request to produce, as it came. */
export interface ProduceCall {
  readonly node: number;
  readonly batches: readonly PartitionBatch[];
}

/** A cluster in memory with as much of the protocol as producing takes. What befalls requests is up to the test. */
export class FakeCluster {
  readonly topics = new Map<string, FakeTopic>();
  readonly produced: ProduceCall[] = [];
  readonly asked: (readonly string[])[] = [];
  /** How many identities were given. */
  identities = 0;
  isReachable = true;
  /** Whether it speaks the requests that say which topic is meant, as Kafka from 4.1 on. */
  isTold = true;
  identityError: string | undefined;
  /** What metadata says instead, by topic. */
  readonly topicErrors = new Map<string, string>();
  readonly #time: VirtualTime;
  /** How many topics of each name there have been. */
  readonly #lives = new Map<string, number>();
  /** The fate of a request; also the place to change the cluster meanwhile. */
  fate: (call: ProduceCall) => Fate = () => "answered";
  /** Milliseconds that an answer takes. */
  latency: () => number = () => ANSWER_MS;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** Makes a topic; the leader of partition p is node p, unless told otherwise. */
  createTopic(name: string, partitions: number, leader = (partition: number) => partition): FakeTopic {
    const made = { partitions: Array.from({ length: partitions }, (_, index) => new FakePartition(leader(index))) };
    const life = (this.#lives.get(name) ?? 0) + 1;
    this.#lives.set(name, life);
    const topic = { ...made, id: topicId(name, life), mostBytes: 1_048_588 };
    this.topics.set(name, topic);
    return topic;
  }

  connection(): KafkaConnection {
    const never = (): never => {
      throw new Error("not part of producing");
    };
    return {
      connect: never,
      close: never,
      allTopics: never,
      createTopics: never,
      topicConfigurations: never,
      fetch: never,
      listOffsets: never,
      deleteRecords: never,
      coordinator: never,
      joinGroup: never,
      syncGroup: never,
      heartbeat: never,
      leaveGroup: never,
      commitOffsets: never,
      fetchOffsets: never,
      describeGroup: never,
      clusterRights: never,
      listGroups: never,
      fetchGroupsOffsets: never,
      fetchShareGroupOffsets: never,
      metadata: (topics) => this.#metadata(topics),
      producerIdentity: () => this.#identity(),
      produce: (node, batches) => this.#produce({ node, batches }),
    };
  }

  #pass(): Promise<void> {
    return new Promise((resolve) => this.#time.schedule(resolve, this.latency()));
  }

  async #metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    this.asked.push(topics);
    await this.#pass();
    if (!this.isReachable) throw unreachable();
    return { clusterId: CLUSTER_ID, nodes: [1, 2, 3], topics: topics.map((topic) => this.#describe(topic)) };
  }

  #describe(topic: string): TopicMetadata {
    const known = this.topics.get(topic);
    const error = this.topicErrors.get(topic) ?? (known === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : undefined);
    if (error !== undefined || known === undefined) return { topic, id: "", error, partitions: [] };
    const partitions = known.partitions.map(({ leader }, partition) => ({
      partition,
      error: leader < 0 ? "LEADER_NOT_AVAILABLE" : undefined,
      leader,
      replicas: 3,
    }));
    // In no order, as brokers answer.
    return { topic, id: known.id, error, partitions: partitions.reverse() };
  }

  async #identity(): Promise<ProducerIdentity> {
    await this.#pass();
    if (!this.isReachable) throw unreachable();
    if (this.identityError !== undefined) return { error: this.identityError, producerId: -1n, epoch: -1 };
    return { error: undefined, producerId: BigInt(1_000 + this.identities++), epoch: 0 };
  }

  async #produce(call: ProduceCall): Promise<readonly ProduceOutcome[]> {
    this.produced.push(call);
    const fate = this.isReachable ? this.fate(call) : "lost";
    await this.#pass();
    if (fate === "lost") throw unreachable();
    if (fate === "late") {
      const arrive = (): void => {
        for (const batch of call.batches) this.#append(call.node, batch, true);
      };
      this.#time.schedule(arrive, this.latency() * 20);
      throw unreachable();
    }
    const isDone = typeof fate === "string" || fate.isDone === true;
    const outcomes = call.batches.map((batch) => this.#append(call.node, batch, isDone));
    await this.#pass();
    if (fate === "unanswered") throw unreachable();
    if (typeof fate === "string") return outcomes;
    return outcomes.map((outcome) => ({ ...outcome, error: fate.error }));
  }

  #append(node: number, { topic, topicId, partition, batch }: PartitionBatch, isDone: boolean): ProduceOutcome {
    const known = this.topics.get(topic);
    const isOther = this.isTold && known !== undefined && topicId !== known.id;
    if (isOther) return { topic, partition, error: "UNKNOWN_TOPIC_ID", baseOffset: -1 };
    const place = known?.partitions[partition];
    const bytes = Buffer.from(batch.buffer, batch.byteOffset, batch.byteLength);
    if (place === undefined) return { topic, partition, error: "UNKNOWN_TOPIC_OR_PARTITION", baseOffset: -1 };
    if (place.leader !== node) return { topic, partition, error: "NOT_LEADER_FOR_PARTITION", baseOffset: -1 };
    if (!isDone) return { topic, partition, error: undefined, baseOffset: -1 };
    const { error, offset } = place.append(bytes, this.topics.get(topic)?.mostBytes ?? 0);
    return { topic, partition, error, baseOffset: offset };
  }
}

function unreachable(): MessagingError {
  return new MessagingError("unreachable", "the connection broke");
}

import { type Clock, pause, type Random } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { RecordDecoder } from "../consuming/fetch-failures.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import { isMissing, isPassing, operationError } from "../errors.ts";
import type { GroupMember, RebalanceListener } from "../group/coordinator.ts";
import { proveTopics, withoutId } from "../names.ts";
import type { FetchedPartition, KafkaConnection, TopicId, TopicPartition } from "../port.ts";
import type { Producer } from "../producing/producer.ts";
import type { LogRecord, UnreadableBatch } from "../records/contract.ts";

/** A part of a log. */
export interface Piece {
  readonly records: readonly LogRecord[];
  /** The next offset to read. */
  readonly nextOffset: number;
  /** The readable end of the log, where the next record comes. */
  readonly end: number;
  /** Whether an open transaction hides the records behind that end. */
  readonly openTransaction: boolean;
  /** What is at `nextOffset`, if it cannot be read. */
  readonly unreadable: UnreadableBatch | undefined;
}

/** A partition's log, on its own connection. */
export interface Log extends TopicPartition {
  /** The id of the topic read; undefined before it is known. */
  readonly topicId: TopicId | undefined;
  /** The first offset of the current topic. Rejects with `not-found` if there is no topic. */
  first(): Promise<number>;
  /**
   * The offset behind every confirmed record, also behind those that an open transaction hides, and those that a new
   * leader does not show yet. Rejects as {@link first}.
   */
  end(): Promise<number>;
  /**
   * Reads from an offset, at most about one mebibyte; waits for records up to `maxWaitMs`. Retries for a while, then
   * rejects. `out-of-range` if the offset is outside the log, or if the topic was recreated since the first call.
   */
  read(from: number, maxWaitMs: number): Promise<Piece | "out-of-range">;
  /** Pending calls reject with `closed`. */
  close(): Promise<void>;
}

/** What a receiver of dead letters needs. */
export interface DeadLettersDependencies {
  readonly producer: Producer;
  readonly clock: Clock;
  readonly random: Random;
  /** Opens another reader of the log. */
  openLog(): Log;
  /** Joins the group whose members take turns with the dead letters. */
  join(owner: RebalanceListener): GroupMember;
  /** Dead letters for which it is false are skipped and kept. */
  readonly wanted?: (delivered: DeliveredRecord) => boolean;
}

/** What a partition log needs. */
interface PartitionLogDependencies {
  /** Closed with the log. */
  readonly connection: KafkaConnection;
  readonly decode: RecordDecoder;
  readonly clock: Clock;
  /** How long a request is retried, in milliseconds. */
  readonly patienceMs: number;
}

const PIECE_BYTES = 1024 * 1024;
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 1_000;

/** The answer of a leader, or the protocol error. */
type Answer<Result> = { readonly result: Result } | { readonly error: string };

/** Asks a leader about the current topic. */
type Ask<Result> = (node: number, topicId: TopicId) => Promise<Answer<Result>>;

/** The leader, and the topic that it leads. */
interface Leader {
  readonly node: number;
  readonly topicId: TopicId;
}

/** Reads one partition from its current leader, of the topic that had the name at the first call. */
export class PartitionLog implements Log {
  readonly topic: string;
  readonly partition: number;
  readonly #dependencies: PartitionLogDependencies;
  #topicId: TopicId | undefined;
  #leader: Leader | undefined;
  readonly #closed = new AbortController();

  constructor({ topic, partition }: TopicPartition, dependencies: PartitionLogDependencies) {
    this.topic = topic;
    this.partition = partition;
    this.#dependencies = dependencies;
  }

  get topicId(): TopicId | undefined {
    return this.#topicId;
  }

  first(): Promise<number> {
    return this.#bound("find the beginning", "earliest");
  }

  end(): Promise<number> {
    return this.#bound("find the end", "latest");
  }

  #bound(what: string, at: "earliest" | "latest"): Promise<number> {
    return this.#ask(what, async (node, topicId) => {
      const { topic, partition } = this;
      const { connection } = this.#dependencies;
      const [error] = await proveTopics(connection, node, [{ topic, topicId, partition }]);
      if (error !== undefined) return { error };
      const [listed] = await connection.listOffsets(node, [{ topic, partition, at }]);
      if (listed === undefined) return { error: "REQUEST_TIMED_OUT" };
      if (listed.error !== undefined) return { error: listed.error };
      this.#topicId = topicId;
      return { result: listed.offset };
    });
  }

  async read(from: number, maxWaitMs: number): Promise<Piece | "out-of-range"> {
    return this.#ask<Piece | "out-of-range">(`read offset ${from}`, async (node, current) => {
      const { topic, partition } = this;
      const topicId = this.#topicId ?? current;
      // The log was replaced.
      if (topicId !== current) return { result: "out-of-range" };
      const { connection, decode } = this.#dependencies;
      const partitions = [{ topic, topicId, partition, offset: from, maxBytes: PIECE_BYTES }];
      const request = { maxWaitMs, minBytes: 1, maxBytes: PIECE_BYTES, partitions };
      let fetched: FetchedPartition | undefined;
      // An empty answer means a used-up quota, which is no failure.
      do [fetched] = await connection.fetch(node, request);
      while (fetched === undefined);
      if (fetched.error === "OFFSET_OUT_OF_RANGE") return { result: "out-of-range" };
      if (fetched.error !== undefined) return { error: fetched.error };
      const { abortedTransactions, highWatermark, lastStableOffset } = fetched;
      this.#topicId = topicId;
      const decoded = await decode(fetched.records, { topic, partition, from, abortedTransactions });
      const end = lastStableOffset < 0 ? highWatermark : lastStableOffset;
      return { result: { ...decoded, end, openTransaction: end < highWatermark } };
    });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#dependencies.connection.close();
  }

  async #ask<Result>(what: string, ask: Ask<Result>): Promise<Result> {
    const { clock, patienceMs } = this.#dependencies;
    const begun = clock.monotonic();
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      if (this.#closed.signal.aborted)
        throw new MessagingError("closed", `the log of "${this.topic}" was closed meanwhile`);
      const failure = await this.#try(what, ask);
      if (!isMessagingError(failure)) return failure.result;
      this.#leader = undefined;
      if (clock.monotonic() - begun + pauseMs > patienceMs) throw failure;
      await pause(clock, pauseMs, this.#closed.signal);
    }
  }

  /** Resolves with an error that is worth a retry; rejects with others. */
  async #try<Result>(what: string, ask: Ask<Result>): Promise<{ readonly result: Result } | MessagingError> {
    const text = `${what} of "${this.topic}", partition ${this.partition}`;
    try {
      this.#leader ??= await this.#locate();
      const answer = await ask(this.#leader.node, this.#leader.topicId);
      if ("result" in answer) return answer;
      const failure = operationError(answer.error, text, "try again");
      // A former leader may not know the topic; the next attempt finds out.
      if (isPassing(answer.error) || isMissing(answer.error)) return failure;
      throw failure;
    } catch (error) {
      if (isMessagingError(error, "unreachable") || isMessagingError(error, "timeout")) return error;
      throw error;
    }
  }

  async #locate(): Promise<Leader> {
    const { topics } = await this.#dependencies.connection.metadata([this.topic]);
    const found = topics.find(({ topic }) => topic === this.topic);
    const place = found?.partitions.find(({ partition }) => partition === this.partition);
    if (found !== undefined && place !== undefined && place.leader >= 0) {
      if (found.id === "") throw withoutId(this.topic);
      return { node: place.leader, topicId: found.id };
    }
    const error = found?.error ?? place?.error ?? (place === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : undefined);
    throw operationError(error ?? "LEADER_NOT_AVAILABLE", `find "${this.topic}"`, "see that its brokers run");
  }
}

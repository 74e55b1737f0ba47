import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { RecordDecoder } from "../consuming/fetcher-parts.ts";
import { isMissing, isPassing, operationError } from "../errors.ts";
import type { FetchedPartition, KafkaConnection, TopicId, TopicPartition } from "../port.ts";
import { withoutId } from "../topic-identity.ts";
import { proveTopics } from "../topic-proof.ts";
import type { Log, Piece } from "./contract.ts";
import { Pauses } from "./pauses.ts";

/** What reading a log takes. */
export interface PartitionLogParts {
  /** Closed with the log. */
  readonly connection: KafkaConnection;
  readonly decode: RecordDecoder;
  readonly clock: Clock;
  /** For how many milliseconds a question is put again that nobody answered for. */
  readonly patienceMs: number;
}

const PIECE_BYTES = 1024 * 1024;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

/** What was asked of the leader of the partition: an answer, or the error that Kafka answered with. */
type Answer<Result> = { readonly result: Result } | { readonly error: string };

/** Puts a question to a leader, about the topic that has the name. */
type Ask<Result> = (node: number, topicId: TopicId) => Promise<Answer<Result>>;

/** Who leads the partition, of which topic. */
interface Leader {
  readonly node: number;
  readonly topicId: TopicId;
}

/** Reads one partition, wherever it is led, of the topic that had the name when {@link first} was called. */
export class PartitionLog implements Log {
  readonly topic: string;
  readonly partition: number;
  readonly #parts: PartitionLogParts;
  #topicId: TopicId | undefined;
  #leader: Leader | undefined;
  #isClosed = false;
  readonly #pauses: Pauses;

  constructor({ topic, partition }: TopicPartition, parts: PartitionLogParts) {
    this.topic = topic;
    this.partition = partition;
    this.#parts = parts;
    this.#pauses = new Pauses(parts.clock);
  }

  get topicId(): TopicId | undefined {
    return this.#topicId;
  }

  async first(): Promise<number> {
    return this.#ask("find the beginning", async (node, topicId) => {
      const { topic, partition } = this;
      const { connection } = this.#parts;
      const [error] = await proveTopics(connection, node, [{ topic, topicId, partition }]);
      if (error !== undefined) return { error };
      const [listed] = await connection.listOffsets(node, [{ topic, partition, at: "earliest" }]);
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
      // The log that was read is gone.
      if (topicId !== current) return { result: "out-of-range" };
      const { connection, decode } = this.#parts;
      const partitions = [{ topic, topicId, partition, offset: from, maxBytes: PIECE_BYTES }];
      const request = { maxWaitMs, minBytes: 1, maxBytes: PIECE_BYTES, partitions };
      let fetched: FetchedPartition | undefined;
      // Nothing is said where a quota is used up: that takes its time, and is no failure.
      do [fetched] = await connection.fetch(node, request);
      while (fetched === undefined);
      if (fetched.error === "OFFSET_OUT_OF_RANGE") return { result: "out-of-range" };
      if (fetched.error !== undefined) return { error: fetched.error };
      const { abortedTransactions, highWatermark, lastStableOffset } = fetched;
      this.#topicId = topicId;
      const decoded = await decode(fetched.records, { topic, partition, from, abortedTransactions });
      return { result: { ...decoded, end: lastStableOffset < 0 ? highWatermark : lastStableOffset } };
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#pauses.end();
    await this.#parts.connection.close();
  }

  async #ask<Result>(what: string, ask: Ask<Result>): Promise<Result> {
    const { clock, patienceMs } = this.#parts;
    const begun = clock.monotonic();
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      if (this.#isClosed) throw new MessagingError("closed", `the log of "${this.topic}" was closed meanwhile`);
      const failure = await this.#try(what, ask);
      if (!isMessagingError(failure)) return failure.result;
      this.#leader = undefined;
      if (clock.monotonic() - begun + pauseMs > patienceMs) throw failure;
      await this.#pauses.wait(pauseMs);
    }
  }

  /** Resolves with what is worth another try; rejects where that would not help. */
  async #try<Result>(what: string, ask: Ask<Result>): Promise<{ readonly result: Result } | MessagingError> {
    const text = `${what} of "${this.topic}", partition ${this.partition}`;
    try {
      this.#leader ??= await this.#locate();
      const answer = await ask(this.#leader.node, this.#leader.topicId);
      if ("result" in answer) return answer;
      const failure = operationError(answer.error, text, "try again");
      // One that does not lead any more may know nothing of the topic; whether it exists is seen at the next try.
      if (isPassing(answer.error) || isMissing(answer.error)) return failure;
      throw failure;
    } catch (error) {
      if (isMessagingError(error, "unreachable") || isMessagingError(error, "timeout")) return error;
      throw error;
    }
  }

  async #locate(): Promise<Leader> {
    const { topics } = await this.#parts.connection.metadata([this.topic]);
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

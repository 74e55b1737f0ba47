import type { SendReport, SendResult } from "../../../core/adapter.ts";
import type { Clock, Random, Timer } from "../../../core/clock.ts";
import { DECLARE_IT, isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import { operationError } from "../errors.ts";
import type { ErrorName, KafkaConnection, TopicMetadata, TopicPartition } from "../port.ts";
import type { Compression, RecordToWrite } from "../records/contract.ts";

/** A record, with a partition if the key does not choose it. */
export interface RecordToSend extends RecordToWrite {
  readonly partition?: number;
}

/** Writes records to topics: acks=all, idempotent, in order per partition. */
export interface Producer {
  /** Sends records in order. Calls `report` exactly once per index, possibly much later; see `Adapter.send`. */
  send(topic: string, records: readonly RecordToSend[], report: SendReport): void;
}

/** A record without an answer. */
export interface PendingRecord {
  readonly record: RecordToSend;
  /** Its bytes in a batch. */
  readonly size: number;
  readonly index: number;
  readonly report: SendReport;
  /** When its attempts end, in monotonic milliseconds. */
  readonly deadline: number;
}

/** Between retries of requests. */
export const RETRY: BackoffTimes = Object.freeze({ firstMs: 50, maxMs: 1_000 });

/** What a producer needs, and its options. */
export interface ProducerOptions {
  /** Used by this producer only. The caller closes it after the producer. */
  readonly connection: KafkaConnection;
  readonly signals: ProducerSignals;
  /** Default `none`. */
  readonly compression?: Compression;
  /** The most bytes that readers inflate a batch to; larger ones are not compressed. Default 64 MiB. */
  readonly maxInflatedBytes?: number;
  /** The request timeout of the connection, in milliseconds; replicas may take half of it. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** Milliseconds for the attempts of a batch; an attempt under way may end later. Default 30,000. */
  readonly deliveryTimeoutMs?: number;
  /**
   * The most bytes of a batch before compression, `maxInflatedBytes` at most; a single larger record goes alone. Default
   * 1,000,000.
   */
  readonly maxBatchBytes?: number;
  /** Milliseconds between metadata requests while nothing is sent. Default 15,000. */
  readonly refreshMs?: number;
  /** Milliseconds that a topic may be missing, as right after its creation. Default 1,500. */
  readonly missingTopicGraceMs?: number;
  /** Milliseconds between metadata requests while no broker answers. Default: 50, doubled up to 1,000. */
  readonly reconnect?: BackoffTimes;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** What a producer reports about the cluster. */
interface ProducerSignals {
  /** A broker answers again. */
  up(): void;
  /** No broker answers. */
  down(cause: MessagingError): void;
  /** Reports a condition that people should know, such as a recreated topic. */
  notice(error: MessagingError): void;
}

/** The options with their defaults. */
export type ProducerSettings = Required<ProducerOptions>;

const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });

/** Collects results and reports them later, after the next requests were sent. */
export class DeliveryReports {
  #pendingBytes = 0;
  #due: { readonly records: readonly PendingRecord[]; readonly result: SendResult }[] = [];

  /** Bytes of records without an answer. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Counts a record without an answer. */
  add(record: PendingRecord): void {
    this.#pendingBytes += record.size;
  }

  confirmed(records: readonly PendingRecord[]): void {
    this.#add(records, CONFIRMED);
  }

  rejected(records: readonly PendingRecord[], error: MessagingError): void {
    this.#add(records, { status: "rejected", error });
  }

  unknown(records: readonly PendingRecord[], cause: unknown): void {
    this.#add(records, { status: "unknown", cause });
  }

  /** Calls the reports. They may send again. */
  report(): void {
    const due = this.#due;
    this.#due = [];
    for (const { records, result } of due) for (const { report, index } of records) report(index, result);
  }

  #add(records: readonly PendingRecord[], result: SendResult): void {
    if (records.length === 0) return;
    for (const { size } of records) this.#pendingBytes -= size;
    this.#due.push({ records, result });
  }
}

/**
 * The meaning of an answer for a batch.
 *
 * - `stored`: it is in the log, by this request or an earlier one.
 * - `doubtful`: it may be in the log; the same bytes are sent again until an answer is clear.
 * - `missing`: the broker has no such partition, or another topic of that name, and stored nothing.
 * - `unrecognised`: the broker does not accept this producer identity any more; this request stored nothing.
 * - `divisible`: a part of it was refused; nothing was stored.
 * - `refused`: it was refused as a whole; nothing was stored.
 */
type ProduceOutcome = "stored" | "doubtful" | "missing" | "unrecognised" | "divisible" | "refused";

const OUTCOMES: ReadonlyMap<string, ProduceOutcome> = new Map([
  ["DUPLICATE_SEQUENCE_NUMBER", "stored"],
  ["UNKNOWN_TOPIC_OR_PARTITION", "missing"],
  ["UNKNOWN_TOPIC_ID", "missing"],
  ["INCONSISTENT_TOPIC_ID", "missing"],
  ["OUT_OF_ORDER_SEQUENCE_NUMBER", "unrecognised"],
  ["UNKNOWN_PRODUCER_ID", "unrecognised"],
  ["INVALID_PRODUCER_EPOCH", "unrecognised"],
  ["INVALID_PRODUCER_ID_MAPPING", "unrecognised"],
  ["PRODUCER_FENCED", "unrecognised"],
  ["MESSAGE_TOO_LARGE", "divisible"],
  ["RECORD_LIST_TOO_LARGE", "divisible"],
  ["INVALID_RECORD", "divisible"],
  ["INVALID_TIMESTAMP", "divisible"],
  ["TOPIC_AUTHORIZATION_FAILED", "refused"],
  ["CLUSTER_AUTHORIZATION_FAILED", "refused"],
  ["INVALID_TOPIC_EXCEPTION", "refused"],
  ["UNSUPPORTED_COMPRESSION_TYPE", "refused"],
  ["UNSUPPORTED_FOR_MESSAGE_FORMAT", "refused"],
  ["POLICY_VIOLATION", "refused"],
]);

const REFUSALS: ReadonlyMap<string, readonly [code: MessagingErrorCode, what: string]> = new Map([
  [
    "MESSAGE_TOO_LARGE",
    ["too-large", "it is over the topic's max.message.bytes; send a reference to the data instead"],
  ],
  [
    "RECORD_LIST_TOO_LARGE",
    ["too-large", "it is over the topic's segment.bytes; send a reference to the data instead"],
  ],
  ["INVALID_RECORD", ["refused", "the topic takes no such record; a compacted one needs a key on each"]],
  ["INVALID_TIMESTAMP", ["refused", "its time is too far from the broker's; set this machine's clock"]],
  ["UNSUPPORTED_COMPRESSION_TYPE", ["unsupported", "it does not take this compression; choose another"]],
  [
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    ["unsupported", "the topic keeps an old format; raise its message.format.version"],
  ],
]);

/** Classifies a protocol error. Unknown errors are doubtful. */
export function outcomeOf(error: ErrorName): ProduceOutcome {
  return error === undefined ? "stored" : (OUTCOMES.get(error) ?? "doubtful");
}

/** Whether a smaller batch may be accepted. */
export function isTooLarge(error: ErrorName): boolean {
  return error === "MESSAGE_TOO_LARGE" || error === "RECORD_LIST_TOO_LARGE";
}

/** Why records were refused, for the sender. */
export function refusal(error: string, { topic, partition }: TopicPartition): MessagingError {
  const where = `topic "${topic}", partition ${partition}`;
  if (error === "INVALID_TOPIC_EXCEPTION") return topicRefusal(error, topic);
  const known = REFUSALS.get(error);
  if (known === undefined) return operationError(error, `write to ${where}`, "look at the brokers' logs");
  return new MessagingError(known[0], `Kafka refused a message for ${where} (${error}): ${known[1]}`);
}

/** Why the outcome of a batch is unclear. */
export function doubtfulError(error: string, { topic, partition }: TopicPartition): MessagingError {
  return operationError(error, `write to topic "${topic}", partition ${partition}`, "it is tried again");
}

/** Why nothing can be written to a topic. */
export function topicRefusal(error: string, topic: string): MessagingError {
  if (error !== "INVALID_TOPIC_EXCEPTION") return operationError(error, `write to topic "${topic}"`, "try again");
  return new MessagingError("invalid", `Kafka takes no topic of the name "${topic}" (${error}); choose another`);
}

export function missingTopic(topic: string): MessagingError {
  return new MessagingError("not-found", `there is no topic "${topic}" on Kafka; ${DECLARE_IT}`);
}

/** The topic was recreated. */
export function replacedTopic(topic: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again: what was sent to it before is gone with the old one, also what was confirmed while that was being deleted; find out who deleted it`,
  );
}

export function missingPartition(topic: string): MessagingError {
  return new MessagingError(
    "not-found",
    `topic "${topic}" on Kafka has fewer partitions than are written to; declare it anew with as many`,
  );
}

/** What a metadata poller reports. */
interface MetadataPollerEvents {
  onMetadata(topic: TopicMetadata): void;
  up(): void;
  down(cause: MessagingError): void;
}

/**
 * Polls metadata: on request and from time to time, one request at a time. While no broker answers it keeps asking, and
 * so finds out when the cluster is back.
 */
export class MetadataPoller {
  readonly #settings: ProducerSettings;
  readonly #events: MetadataPollerEvents;
  readonly #known = new Set<string>();
  readonly #requested = new Set<string>();
  #timer: Timer | undefined;
  #isAsking = false;
  #isRequested = false;
  #failures = 0;
  #isDown = false;
  #isClosed = false;

  constructor(settings: ProducerSettings, events: MetadataPollerEvents) {
    this.#settings = settings;
    this.#events = events;
  }

  get isDown(): boolean {
    return this.#isDown;
  }

  /** Starts periodic requests. */
  open(): void {
    this.#askIn(this.#settings.refreshMs);
  }

  /** Requests metadata of a topic; without one, checks whether any broker answers. */
  requestUpdate(topic?: string): void {
    if (topic !== undefined) {
      this.#known.add(topic);
      this.#requested.add(topic);
    }
    this.#isRequested = true;
    // While no broker answers, requests are paused.
    if (this.#failures === 0) void this.#ask();
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== undefined) this.#settings.clock.cancel(this.#timer);
  }

  async #ask(): Promise<void> {
    if (this.#isAsking || this.#isClosed) return;
    this.#isAsking = true;
    const { connection, refreshMs, reconnect, random } = this.#settings;
    const asked = this.#failures === 0 && this.#requested.size > 0 ? this.#requested : this.#known;
    const asking = connection.metadata([...asked]);
    this.#requested.clear();
    this.#isRequested = false;
    try {
      this.#answered((await asking).topics);
    } catch (error) {
      this.#failed(error);
    }
    this.#isAsking = false;
    if (this.#isClosed) return;
    if (this.#failures === 0 ? this.#isRequested : !this.#isDown) void this.#ask();
    else this.#askIn(this.#failures === 0 ? refreshMs : backoffMs(this.#failures, reconnect, random));
  }

  #answered(topics: readonly TopicMetadata[]): void {
    if (this.#isClosed) return;
    this.#failures = 0;
    const wasDown = this.#isDown;
    this.#isDown = false;
    for (const topic of topics) this.#events.onMetadata(topic);
    if (wasDown) this.#events.up();
  }

  #failed(error: unknown): void {
    this.#failures++;
    // A single failure may be a broken socket; the second means that no broker answers.
    if (this.#isClosed || this.#isDown || this.#failures < 2) return;
    this.#isDown = true;
    this.#events.down(
      isMessagingError(error) ? error : new MessagingError("unreachable", "Kafka gave no answer", { cause: error }),
    );
  }

  #askIn(ms: number): void {
    const { clock } = this.#settings;
    if (this.#timer !== undefined) clock.cancel(this.#timer);
    this.#timer = clock.schedule(() => void this.#ask(), ms);
  }
}

import type { SendReport } from "../../../core/adapter.ts";
import { systemClock, systemRandom } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { isMissing, isPassing } from "../errors.ts";
import type { TopicMetadata } from "../port.ts";
import { checkCompression, DEFAULT_LIMITS } from "../records/contract.ts";
import { recordSize } from "../records/encode.ts";
import { TopicAccumulators } from "./accumulator.ts";
import { ProduceSender } from "./produce-sender.ts";
import {
  DeliveryReports,
  MetadataPoller,
  missingPartition,
  missingTopic,
  type PendingRecord,
  type Producer,
  type ProducerOptions,
  type ProducerSettings,
  RETRY,
  type RecordToSend,
  replacedTopic,
  topicRefusal,
} from "./producer.ts";

/** Milliseconds between requests for metadata that records wait for. */
const ASK_AGAIN_MS = 150;
/** The most bytes without an answer: a safety net behind the engine's own limits. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

/** Adds records to the accumulators of their partitions. Records of unknown topics wait for metadata. */
class IdempotentProducer implements KafkaProducer {
  readonly #settings: ProducerSettings;
  readonly #reports = new DeliveryReports();
  readonly #topics = new Map<string, TopicAccumulators>();
  readonly #metadata: MetadataPoller;
  readonly #sender: ProduceSender;
  #isOpen = false;
  #isClosed = false;

  constructor(settings: ProducerSettings) {
    this.#settings = settings;
    this.#metadata = new MetadataPoller(settings, {
      onMetadata: (topic) => this.#onMetadata(topic),
      up: () => {
        for (const { accumulators } of this.#topics.values())
          for (const accumulator of accumulators.values()) this.#sender.wake(accumulator);
        settings.signals.up();
      },
      down: (cause) => settings.signals.down(cause),
    });
    this.#sender = new ProduceSender(settings, this.#reports, {
      leaderOf: ({ topic, partition }) =>
        this.#metadata.isDown ? undefined : this.#topics.get(topic)?.leaderOf(partition),
      topicIdOf: ({ topic }) => this.#topics.get(topic)?.topicId ?? "",
      requestUpdate: (topic) => this.#metadata.requestUpdate(topic),
    });
  }

  get isConnected(): boolean {
    return this.#isOpen && !this.#isClosed && !this.#metadata.isDown;
  }

  async open(): Promise<void> {
    await this.#sender.open();
    if (this.#isClosed) return;
    this.#isOpen = true;
    this.#metadata.open();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#metadata.close();
    this.#sender.close();
    const cause = new MessagingError("closed", "the Kafka producer was closed before Kafka had answered");
    for (const topic of this.#topics.values()) {
      if (topic.timer !== undefined) this.#settings.clock.cancel(topic.timer);
      this.#reports.unknown(topic.takeWaiting(), cause);
      for (const accumulator of topic.accumulators.values()) this.#sender.giveUp(accumulator, cause);
    }
    this.#reports.report();
  }

  send(topic: string, records: readonly RecordToSend[], report: SendReport): void {
    const failure = this.#failure();
    if (failure !== undefined) {
      for (let index = 0; index < records.length; index++)
        report(index, { status: "unknown", cause: failure, unsent: true });
      return;
    }
    const deadline = this.#settings.clock.monotonic() + this.#settings.deliveryTimeoutMs;
    const pending = records.map((record, index): PendingRecord => {
      const one = { record, size: recordSize(record, 0), index, report, deadline };
      this.#reports.add(one);
      return one;
    });
    this.#place(this.#topic(topic), pending);
  }

  /** Why the producer accepts nothing now. */
  #failure(): MessagingError | undefined {
    if (!this.isConnected) return new MessagingError("unreachable", "not connected to Kafka; connecting again");
    const { pendingBytes } = this.#reports;
    if (pendingBytes > MAX_HELD_BYTES) {
      return new MessagingError("overloaded", `Kafka owes answers for ${pendingBytes} bytes of messages already`);
    }
    return undefined;
  }

  #topic(name: string): TopicAccumulators {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    const topic = new TopicAccumulators(name, this.#settings);
    this.#topics.set(name, topic);
    return topic;
  }

  #place(topic: TopicAccumulators, records: readonly PendingRecord[]): void {
    for (const accumulator of topic.place(records)) this.#sender.ready(accumulator);
    if (topic.hasWaiting) this.#requestMetadata(topic);
  }

  /** Requests metadata now, and again while records wait for it. */
  #requestMetadata(topic: TopicAccumulators): void {
    if (topic.timer !== undefined) return;
    const { clock } = this.#settings;
    topic.timer = clock.schedule(() => {
      topic.timer = undefined;
      this.#reports.unknown(topic.takeOverdue(clock.monotonic()), unknownTopic(topic.topic));
      this.#reports.report();
      if (topic.hasWaiting) this.#requestMetadata(topic);
    }, ASK_AGAIN_MS);
    this.#metadata.requestUpdate(topic.topic);
  }

  #onMetadata(metadata: TopicMetadata): void {
    const topic = this.#topics.get(metadata.topic);
    if (topic === undefined) return;
    const { error } = metadata;
    if (error === undefined || (isPassing(error) && metadata.partitions.length > 0)) {
      // Sequence numbers continue: a new log accepts any first one, and detects duplicates from there.
      if (topic.learn(metadata)) this.#settings.signals.notice(replacedTopic(topic.topic));
      for (const accumulator of topic.accumulators.values())
        this.#sender.found(accumulator, topic.leaderOf(accumulator.partition));
      this.#place(topic, topic.takeWaiting());
      if (this.#isMissingTooLong(topic, topic.hasWaiting)) {
        this.#reports.rejected(topic.takeWaiting(), missingPartition(topic.topic));
      }
    } else if (isMissing(error)) {
      if (this.#isMissingTooLong(topic, topic.isBusy)) this.#refuse(topic, missingTopic(topic.topic));
    } else if (!isPassing(error)) {
      this.#refuse(topic, topicRefusal(error, topic.topic));
    }
    this.#sender.flush();
  }

  /** Whether the topic or partition is missing for longer than brokers take to learn of a new one. */
  #isMissingTooLong(topic: TopicAccumulators, isMissed: boolean): boolean {
    const now = this.#settings.clock.monotonic();
    topic.missingSince = isMissed ? (topic.missingSince ?? now) : undefined;
    if (topic.missingSince === undefined || now - topic.missingSince < this.#settings.missingTopicGraceMs) return false;
    topic.missingSince = undefined;
    return true;
  }

  #refuse(topic: TopicAccumulators, error: MessagingError): void {
    this.#reports.rejected(topic.takeWaiting(), error);
    for (const accumulator of topic.accumulators.values()) this.#sender.refuseAll(accumulator, error);
  }
}

function unknownTopic(topic: string): MessagingError {
  return new MessagingError("unreachable", `Kafka does not say where the partitions of topic "${topic}" are`);
}

/** A producer with its connection. */
export interface KafkaProducer extends Producer {
  /** Whether any broker answers, as far as known. While none does, `send` reports every record as `unknown` at once. */
  readonly isConnected: boolean;
  /** Gets ready to send. Rejects with `unreachable`, `timeout`, or `unauthorized` for a refused login. */
  open(): Promise<void>;
  /** Reports everything under way as `unknown`. A second call does nothing. */
  close(): void;
}

/**
 * Creates a producer over a connection; call `open` before `send`. Throws `unsupported` if the compression has no
 * codec.
 *
 * - `confirmed`: the record is in the log.
 * - `rejected`: it is certainly not in the log, and will not be.
 * - `unknown`: no clear answer within `deliveryTimeoutMs`. Later records of its partition are `unknown` too and not
 * sent, so that sending them again keeps the order.
 */
export function createProducer(options: ProducerOptions): KafkaProducer {
  const given = {
    compression: "none",
    maxInflatedBytes: DEFAULT_LIMITS.maxInflatedBytes,
    requestTimeoutMs: 10_000,
    deliveryTimeoutMs: 30_000,
    maxBatchBytes: 1_000_000,
    refreshMs: 15_000,
    missingTopicGraceMs: 1_500,
    reconnect: RETRY,
    clock: systemClock(),
    random: systemRandom(),
    ...options,
  } as const;
  const settings = { ...given, maxBatchBytes: Math.min(given.maxBatchBytes, given.maxInflatedBytes) };
  checkCompression(settings.compression);
  return new IdempotentProducer(settings);
}

import type { SendReport } from "../../../core/adapter.ts";
import { systemClock, systemRandom } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { isMissing, isPassing } from "../errors.ts";
import type { TopicMetadata } from "../port.ts";
import { checkCompression } from "../records/contract.ts";
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

/** Milliseconds after which it is asked again about a topic that something waits for. */
const ASK_AGAIN_MS = 150;
/** Past this, what the cluster does not take is no longer piled up: a net under the engine's own bounds. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

/** Gives records to the accumulators of their partitions, and holds those whose topic is not known yet. */
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
      for (let index = 0; index < records.length; index++) report(index, { status: "unknown", cause: failure });
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

  /** Why nothing is taken now. */
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

  /** Asks now, and again after a while as long as something waits. */
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
      // Sequences go on: a new log takes any as the first, and knows by them what reaches it twice.
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

  /** Whether what something waits for has been missing for longer than it takes every broker to hear of a new topic. */
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

/** A producer and its life. */
export interface KafkaProducer extends Producer {
  /** Whether any broker answers, as far as is known. While none does, `send` reports every record `unknown` at once. */
  readonly isConnected: boolean;
  /** Prepares for sending. Rejects with `unreachable`, `timeout` or, if the login is refused, `unauthorized`. */
  open(): Promise<void>;
  /** Ends at once: whatever is under way is reported `unknown`. A second call does nothing. */
  close(): void;
}

/**
 * A producer over a connection; not open yet. Throws `unsupported` if nothing here can compress as asked.
 *
 * A record is reported `confirmed` when it is in the log, `rejected` when it is certain that it is not and will not be,
 * and `unknown` otherwise: tried for `deliveryTimeoutMs` without a clear answer. What was sent to a partition behind an
 * `unknown` record is `unknown` as well and not sent, so that sending it again keeps the order.
 */
export function createProducer(options: ProducerOptions): KafkaProducer {
  const settings = {
    compression: "none",
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
  checkCompression(settings.compression);
  return new IdempotentProducer(settings);
}

import type {
  ConsumerOptions,
  RecordConsumer,
  RecordSink,
} from "../../../adapters/kafka/consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { Producer, RecordToSend } from "../../../adapters/kafka/producing/producer.ts";
import type { LogRecord } from "../../../adapters/kafka/records/contract.ts";
import { unreadableRecord } from "../../../adapters/kafka/records/read.ts";
import type { DeliveryToken, SendReport, SendResult, Settlement, SettleResult } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { VirtualTime } from "../../simulation/virtual-time.ts";

/** Where records end up, as they were handed over. */
export interface Arrival {
  readonly topic: string;
  readonly record: RecordToSend;
  readonly at: number;
}

/** Topics of eight partitions that every record sent stands in until it is settled, and what was sent anywhere. */
export class FakeTopics {
  readonly arrivals: Arrival[] = [];
  readonly #time: VirtualTime;
  readonly #partitions = new Map<string, LogRecord[][]>();
  /** What becomes of a record that is sent; confirmed, unless told. */
  answer: (topic: string, record: RecordToSend) => SendResult | "never" = () => ({ status: "confirmed" });
  /** How long a send takes. */
  latency: () => number = () => 1;
  sends = 0;
  /** Called when something stands in a topic that did not before. */
  readonly listeners = new Set<() => void>();

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  readonly producer: Producer = {
    send: (topic: string, records: readonly RecordToSend[], report: SendReport) => {
      this.sends++;
      records.forEach((record, index) => {
        const result = this.answer(topic, record);
        if (result === "never") return;
        this.#time.schedule(() => {
          if (result.status !== "rejected") this.append(topic, record);
          report(index, result);
        }, this.latency());
      });
    },
  };

  /** A batch that cannot be read. */
  appendUnreadable(topic: string, partition: number, error: MessagingError): LogRecord {
    const log = this.partitions(topic)[partition] ?? [];
    const extent = { lastOffset: log.length, records: 3, timestamp: 5, appendTime: true };
    const stored = unreadableRecord(log.length, extent, error);
    log.push(stored);
    for (const listener of this.listeners) listener();
    return stored;
  }

  append(topic: string, record: RecordToSend): LogRecord {
    this.arrivals.push({ topic, record, at: this.#time.now });
    const headers: Record<string, Buffer> = Object.create(null);
    for (const [name, value] of record.headers) headers[name] = Buffer.from(value ?? "");
    const log = this.partitions(topic)[record.partition ?? 0] ?? [];
    const stored: LogRecord = {
      offset: log.length,
      timestamp: 0,
      key: record.key === undefined ? undefined : Buffer.from(record.key),
      value: record.value === undefined ? undefined : Buffer.from(record.value),
      headers,
    };
    log.push(stored);
    for (const listener of this.listeners) listener();
    return stored;
  }

  partitions(topic: string): LogRecord[][] {
    let partitions = this.#partitions.get(topic);
    if (partitions === undefined) {
      partitions = Array.from({ length: 8 }, () => []);
      this.#partitions.set(topic, partitions);
    }
    return partitions;
  }
}

/** What is settled of a topic, over all its consumers. */
export class Progress {
  readonly acknowledged = new Set<LogRecord>();
}

/** A consumer of one topic that reads in order, under a prefetch for each partition. */
export class FakeConsumer implements RecordConsumer {
  readonly leaseMs = undefined;
  readonly held = new Set<DeliveredRecord>();
  readonly settled: Settlement[] = [];
  readonly kept: LogRecord[] = [];
  referencesUnderWay = 0;
  readonly windows: number[] = [];
  readonly options: ConsumerOptions;
  readonly sink: RecordSink;
  isClosed = false;
  most = 0;
  readonly #topics: FakeTopics;
  readonly #progress: Progress;
  readonly #time: VirtualTime;
  readonly #taken = new Set<LogRecord>();
  #prefetch: number;
  #isPolling = false;

  constructor(topics: FakeTopics, progress: Progress, time: VirtualTime, options: ConsumerOptions, sink: RecordSink) {
    this.#topics = topics;
    this.#progress = progress;
    this.#time = time;
    this.options = options;
    this.sink = sink;
    this.#prefetch = options.prefetch;
    topics.listeners.add(this.#wake);
    this.#wake();
  }

  prefetch(count: number): void {
    this.windows.push(count);
    this.#prefetch = count;
    this.#wake();
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    this.settled.push(...batch);
    const results = batch.map(({ token, action }): SettleResult => {
      const held = token as DeliveredRecord;
      if (!this.held.delete(held)) return "fenced";
      if (action === "ack") this.#progress.acknowledged.add(held.record);
      else this.#taken.delete(held.record);
      return "settled";
    });
    this.#wake();
    return new Promise((resolve) => this.#time.schedule(() => resolve(results), 1));
  }

  keep(token: DeliveryToken): (() => void) | undefined {
    const delivered = token as DeliveredRecord;
    if (!this.held.has(delivered)) return undefined;
    this.kept.push(delivered.record);
    this.referencesUnderWay++;
    return () => {
      this.referencesUnderWay--;
    };
  }

  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map(() => true));
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.held.clear();
  }

  /** Everything held is no longer this consumer's. */
  lose(): void {
    const lost = [...this.held];
    this.isClosed = true;
    this.held.clear();
    this.sink.lost(lost, new MessagingError("unreachable", "the session ended"));
  }

  /** Reads soon, and at once all there is. */
  readonly #wake = (): void => {
    if (this.#isPolling || this.isClosed) return;
    this.#isPolling = true;
    this.#time.schedule(() => this.#poll(), 1);
  };

  #poll(): void {
    this.#isPolling = false;
    if (this.isClosed) return;
    const [topic = ""] = this.options.topics;
    this.#topics.partitions(topic).forEach((log, partition) => {
      const room = this.#prefetch - [...this.held].filter((held) => held.partition === partition).length;
      const next = log.filter((record) => !this.#progress.acknowledged.has(record) && !this.#taken.has(record));
      const records = next.slice(0, Math.max(room, 0)).map((record) => ({ topic, partition, record, crashes: 0 }));
      for (const held of records) {
        this.held.add(held);
        this.#taken.add(held.record);
      }
      this.most = Math.max(this.most, this.held.size);
      if (records.length > 0) this.sink.deliver(records);
    });
  }
}

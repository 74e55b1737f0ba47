import type { FetchedPartition, PartitionOffset, TopicId } from "../../../../adapters/kafka/port.ts";
import type { DecodedRecords, LogRecord } from "../../../../adapters/kafka/records/contract.ts";
import type { Prng } from "../../../simulation/prng.ts";
import { topicId } from "../../topic-ids.ts";

const RECORD_BYTES = 100;

/** One partition of a topic as its brokers keep it. */
export class SimulatedLog {
  readonly topic: string;
  readonly partition: number;
  /** How many topics of the name there have been. */
  life = 1;
  leader: number;
  start = 0;
  end = 0;
  /** Of the present topic. */
  records: LogRecord[] = [];
  /** Those of every topic of the name, by its id. */
  readonly #lives = new Map<TopicId, LogRecord[]>();

  constructor(topic: string, partition: number, leader: number) {
    this.topic = topic;
    this.partition = partition;
    this.leader = leader;
    this.#lives.set(this.topicId, this.records);
  }

  /** The records of a topic that has, or had, the name. */
  recordsOf(id: TopicId): readonly LogRecord[] {
    return this.#lives.get(id) ?? [];
  }

  /** Appends a record, sometimes behind offsets that no reader sees. */
  append(prng: Prng): LogRecord {
    if (prng.chance(0.05)) this.end += prng.chance(0.1) ? 20_000 : prng.between(1, 3);
    const record: LogRecord = {
      offset: this.end++,
      // So that it can be told from its like in another topic of the name.
      timestamp: this.life,
      key: undefined,
      value: Buffer.from("x"),
      headers: {},
    };
    this.records.push(record);
    return record;
  }

  get topicId(): TopicId {
    return topicId(this.topic, this.life);
  }

  /** The topic was deleted and made again. */
  recreate(): void {
    this.life++;
    this.start = 0;
    this.end = 0;
    this.records = [];
    this.#lives.set(this.topicId, this.records);
  }

  deleteBefore(offset: number): void {
    this.start = Math.max(this.start, Math.min(offset, this.end));
  }

  fetch(from: number, maxBytes: number, pieces: Pieces, prng: Prng): FetchedPartition {
    const { topic, partition, start, end } = this;
    const answer = { topic, partition, abortedTransactions: [], highWatermark: end, lastStableOffset: end };
    const error = from < start || from > end ? "OFFSET_OUT_OF_RANGE" : undefined;
    if (error !== undefined) return { ...answer, error, logStartOffset: -1, records: Buffer.alloc(0) };
    const most = Math.min(Math.max(1, Math.floor(maxBytes / RECORD_BYTES)), prng.between(1, 40));
    const records = this.from(from, most);
    const nextOffset = records.length < most ? end : (records[most - 1] as LogRecord).offset + 1;
    return { ...answer, error, logStartOffset: start, records: pieces.encode({ records, nextOffset }) };
  }

  /** The records from an offset on. */
  from(offset: number, most = Number.POSITIVE_INFINITY): LogRecord[] {
    return recordsFrom(this.records, offset, most);
  }
}

/** Those from an offset on. */
export function recordsFrom(
  records: readonly LogRecord[],
  offset: number,
  most = Number.POSITIVE_INFINITY,
): LogRecord[] {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((records[middle] as LogRecord).offset < offset) low = middle + 1;
    else high = middle;
  }
  return records.slice(low, low + most);
}

/** What fetched bytes stand for. */
export class Pieces {
  readonly #pieces = new WeakMap<Buffer, Pick<DecodedRecords, "records" | "nextOffset">>();

  encode(piece: Pick<DecodedRecords, "records" | "nextOffset">): Buffer {
    const bytes = Buffer.alloc(piece.records.length * RECORD_BYTES);
    this.#pieces.set(bytes, piece);
    return bytes;
  }

  decode(bytes: Buffer, from: number): DecodedRecords {
    const piece = this.#pieces.get(bytes) ?? { records: [], nextOffset: from };
    return { ...piece, unreadable: undefined };
  }
}

/** Names a partition of one topic among all of its name. */
export function lifeOf({ topic, partition }: Pick<PartitionOffset, "topic" | "partition">, id: TopicId): string {
  return `${topic}/${partition} of ${id}`;
}

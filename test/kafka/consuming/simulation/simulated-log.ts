import type { FetchedPartition, PartitionOffset } from "../../../../adapters/kafka/port.ts";
import type { DecodedRecords, LogRecord } from "../../../../adapters/kafka/records/contract.ts";
import type { Prng } from "../../../simulation/prng.ts";

const RECORD_BYTES = 100;

/** One partition of a topic as its brokers keep it. */
export class SimulatedLog {
  readonly topic: string;
  readonly partition: number;
  leader: number;
  start = 0;
  end = 0;
  readonly records: LogRecord[] = [];

  constructor(topic: string, partition: number, leader: number) {
    this.topic = topic;
    this.partition = partition;
    this.leader = leader;
  }

  /** Appends a record, sometimes behind offsets that no reader sees. */
  append(prng: Prng): LogRecord {
    if (prng.chance(0.05)) this.end += prng.chance(0.1) ? 20_000 : prng.between(1, 3);
    const record: LogRecord = {
      offset: this.end++,
      timestamp: 0,
      key: undefined,
      value: Buffer.from("x"),
      headers: {},
    };
    this.records.push(record);
    return record;
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
    let low = 0;
    let high = this.records.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.records[middle] as LogRecord).offset < offset) low = middle + 1;
      else high = middle;
    }
    return this.records.slice(low, low + most);
  }
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

export function keyOf({ topic, partition }: Pick<PartitionOffset, "topic" | "partition">): string {
  return `${topic}/${partition}`;
}

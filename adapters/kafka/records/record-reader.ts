import { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import type { BatchHeader } from "./batch-header.ts";
import { ByteReader, Malformed } from "./byte-reader.ts";
import type { HeaderList, LogRecord } from "./contract.ts";
import { type HeaderExcess, HeaderReader } from "./header-reader.ts";
import type { DecodeLimits } from "./limits.ts";
import { ReadRecord } from "./read-record.ts";

const NO_HEADERS: HeaderList = Object.freeze({ names: [], values: [] });

/** Reads the records of batches, from an offset on, until there are as many as wanted. */
export class RecordReader {
  readonly records: LogRecord[] = [];
  readonly #of: TopicPartition;
  readonly #from: number;
  readonly #limits: DecodeLimits;
  readonly #headers: HeaderReader;
  #nextOffset: number;

  constructor(of: TopicPartition, from: number, limits: DecodeLimits) {
    this.#of = of;
    this.#from = from;
    this.#nextOffset = from;
    this.#limits = limits;
    this.#headers = new HeaderReader(limits.maxHeaders, limits.maxHeaderBytes);
  }

  get isFull(): boolean {
    return this.records.length >= this.#limits.maxRecords;
  }

  /** Where to read on: behind the last record read, or batch passed. */
  get nextOffset(): number {
    return this.#nextOffset;
  }

  /** How many were read at or above an offset. */
  recordsAt(offset: number): number {
    const first = this.records.findIndex((record) => record.offset >= offset);
    return first < 0 ? 0 : this.records.length - first;
  }

  /** Passes over a batch that ends with an offset. */
  pass(lastOffset: number): void {
    this.#nextOffset = Math.max(this.#nextOffset, lastOffset + 1);
  }

  /** Reads the records of a batch, in `bytes` from `start` to `end`. Throws {@link Malformed} behind the last good one. */
  read(batch: BatchHeader, bytes: Buffer, start: number, end: number): void {
    const reader = new ByteReader(bytes, start, end);
    let previous = batch.baseOffset - 1;
    for (let index = 0; index < batch.count; index++) {
      if (this.isFull) return;
      previous = this.#readRecord(reader, batch, previous);
    }
    if (reader.at !== end) throw new Malformed("it holds more records than it says");
    this.pass(batch.lastOffset);
  }

  #readRecord(reader: ByteReader, batch: BatchHeader, previous: number): number {
    const length = reader.length();
    if (length < 0) throw new Malformed("a record has no length");
    const end = reader.at + length;
    // The attributes, in which nothing is defined.
    reader.byte();
    const timestamp = batch.baseTimestamp + reader.varlong();
    const offset = batch.baseOffset + reader.varint();
    if (offset <= previous || offset > batch.lastOffset) throw new Malformed("the offsets of its records are wrong");
    if (offset < this.#from) {
      reader.at = end;
      return offset;
    }
    const key = reader.sized();
    const value = reader.sized();
    const headers = this.#headers.read(reader, end);
    if (reader.at !== end) throw new Malformed("a record is longer or shorter than it says");
    const excess = typeof headers === "string" ? this.#excess(offset, headers) : undefined;
    const { topic, partition } = this.#of;
    const list = typeof headers === "string" ? NO_HEADERS : headers;
    const { appendedAt } = batch;
    const at = appendedAt ?? timestamp;
    const record = new ReadRecord(topic, partition, offset, at, appendedAt !== undefined, key, value, list, excess);
    this.records.push(record);
    this.#nextOffset = offset + 1;
    return offset;
  }

  #excess(offset: number, excess: HeaderExcess): MessagingError {
    const { topic, partition } = this.#of;
    const { maxHeaders, maxHeaderBytes } = this.#limits;
    const most = excess === "count" ? `${maxHeaders} headers` : `${maxHeaderBytes} bytes of headers`;
    return new MessagingError(
      "too-large",
      `the record at offset ${offset} of "${topic}", partition ${partition}, has more than ${most}, which are not read`,
    );
  }
}

/** The key of the first record that stands there. */
export function firstKey(bytes: Buffer, start: number, end: number): Buffer | undefined {
  const reader = new ByteReader(bytes, start, end);
  reader.length();
  reader.byte();
  reader.varlong();
  reader.varint();
  return reader.sized();
}

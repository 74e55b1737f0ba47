import type { TopicPartition } from "../port.ts";
import type { BatchHeader } from "./batch-header.ts";
import { ByteReader, Malformed } from "./byte-reader.ts";
import type { LogRecord } from "./contract.ts";
import type { DecodeLimits } from "./limits.ts";
import { ReadRecord } from "./read-record.ts";
import { HeaderNames, passHeaders, WrittenHeaders } from "./written-headers.ts";

/** A batch of which so many records were read. */
interface Begun {
  readonly batch: BatchHeader;
  readonly reader: ByteReader;
  index: number;
  /** The offset of the record before. */
  previous: number;
}

/** Reads the records of batches, from an offset on, until there are as many as wanted. */
export class RecordReader {
  readonly records: LogRecord[] = [];
  readonly #of: TopicPartition;
  readonly #from: number;
  readonly #limits: DecodeLimits;
  readonly #names = new HeaderNames();
  #begun: Begun | undefined;
  #nextOffset: number;

  constructor(of: TopicPartition, from: number, limits: DecodeLimits) {
    this.#of = of;
    this.#from = from;
    this.#nextOffset = from;
    this.#limits = limits;
  }

  get isFull(): boolean {
    return this.records.length >= this.#limits.maxRecords;
  }

  /** The batch that was begun and is not read to its end. */
  get begun(): BatchHeader | undefined {
    return this.#begun?.batch;
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

  /** Begins with a batch, whose records stand in `bytes` from `start` to `end`. */
  begin(batch: BatchHeader, bytes: Buffer, start: number, end: number): void {
    this.#begun = { batch, reader: new ByteReader(bytes, start, end), index: 0, previous: batch.baseOffset - 1 };
  }

  /**
   * Reads on in the batch begun, over that many bytes or little more. Returns how many there were. Throws {@link Malformed}
   * behind the last good record.
   */
  readOn(bytes: number): number {
    const begun = this.#begun;
    if (begun === undefined) return 0;
    const { batch, reader } = begun;
    const start = reader.at;
    for (; begun.index < batch.count; begun.index++) {
      if (this.isFull || reader.at - start >= bytes) return reader.at - start;
      begun.previous = this.#readRecord(reader, batch, begun.previous);
    }
    this.#begun = undefined;
    if (reader.at !== reader.end) throw new Malformed("it holds more records than it says");
    this.pass(batch.lastOffset);
    return reader.at - start;
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
    const count = reader.varint();
    if (count < 0) throw new Malformed("a count of headers is negative");
    const start = reader.at;
    const excess = this.#excess(count, end - start);
    if (excess === undefined) passHeaders(reader, count);
    else reader.at = Math.max(start, end);
    if (reader.at !== end) throw new Malformed("a record is longer or shorter than it says");
    const hasHeaders = excess === undefined && count > 0;
    const written = hasHeaders ? new WrittenHeaders(reader.bytes, start, end, count, this.#names) : undefined;
    const { topic, partition } = this.#of;
    const { appendedAt } = batch;
    const at = appendedAt ?? timestamp;
    this.records.push(
      new ReadRecord(topic, partition, offset, at, appendedAt !== undefined, key, value, written, excess),
    );
    this.#nextOffset = offset + 1;
    return offset;
  }

  /** What there is too much of. */
  #excess(count: number, bytes: number): string | undefined {
    const { maxHeaders, maxHeaderBytes } = this.#limits;
    if (count > maxHeaders) return `${maxHeaders} headers`;
    return bytes > maxHeaderBytes ? `${maxHeaderBytes} bytes of headers` : undefined;
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

import { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import type { BatchHeader } from "./batch.ts";
import { ByteReader, Malformed } from "./byte-reader.ts";
import type { BatchExtent, DecodeLimits, HeaderList, HeaderSource, LogRecord } from "./contract.ts";

/** Identifies a null header value: compared by identity, not content. */
export const NULL_VALUE: Buffer = Buffer.alloc(0);
/** The lengths of name and value. */
const LENGTHS_BYTES = 10;

/** The headers of a record in their order. */
export function headerList({ written, headers }: LogRecord): HeaderList {
  return written?.list() ?? { names: Object.keys(headers), values: Object.values(headers) };
}

/** The value as it is written. */
export function writtenValue(value: Buffer): Buffer | undefined {
  return value === NULL_VALUE ? undefined : value;
}

/** Headers copied out of a log. */
export class CopiedHeaders implements HeaderSource {
  readonly size: number;
  readonly #list: HeaderList;

  /** Shares no memory with the source. */
  constructor({ names, values }: HeaderList) {
    const copies = values.map((value) => (value === NULL_VALUE ? NULL_VALUE : Buffer.from(value)));
    this.#list = { names, values: copies };
    let size = 0;
    for (const [index, name] of names.entries()) size += name.length + (copies[index]?.length ?? 0) + LENGTHS_BYTES;
    this.size = size;
  }

  list(): HeaderList {
    return this.#list;
  }

  last(name: Buffer): Buffer | undefined {
    const index = this.#list.names.lastIndexOf(name.toString());
    return index < 0 ? undefined : this.#list.values[index];
  }
}

/** Longer names are decoded each time. */
const MAX_KNOWN = 64;

/** Caches header names by their position: most records have the same ones. */
class HeaderNames {
  readonly #known: { readonly bytes: Buffer; readonly name: string }[] = [];

  /** The name from `start` to `end`, the header number `place` of its record. */
  at(place: number, bytes: Buffer, start: number, end: number): string {
    const known = this.#known[place];
    if (known !== undefined && isSame(known.bytes, bytes, start, end)) return known.name;
    const name = bytes.toString("utf8", start, end);
    // A copy, since a slice would keep the whole fetch in memory.
    if (end - start <= MAX_KNOWN) this.#known[place] = { bytes: Buffer.from(bytes.subarray(start, end)), name };
    return name;
  }
}

/** The headers of a record in the log, validated once and decoded on demand: a fetch may hold millions. */
class WrittenHeaders implements HeaderSource {
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  readonly #count: number;
  readonly #names: HeaderNames;

  /** Headers validated by {@link passHeaders}, from the first to the end of the last. */
  constructor(bytes: Buffer, start: number, end: number, count: number, names: HeaderNames) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#count = count;
    this.#names = names;
  }

  get size(): number {
    return this.#end - this.#start;
  }

  list(): HeaderList {
    const names: string[] = [];
    const values: Buffer[] = [];
    this.#each((reader, place, start, end) => {
      names.push(this.#names.at(place, reader.bytes, start, end));
      values.push(reader.sized() ?? NULL_VALUE);
    });
    return { names, values };
  }

  last(name: Buffer): Buffer | undefined {
    let found: Buffer | undefined;
    this.#each((reader, _, start, end) => {
      if (isSame(name, reader.bytes, start, end)) found = reader.sized() ?? NULL_VALUE;
      else passBytes(reader);
    });
    return found;
  }

  /** `visit` gets the range of a name, and reads the value. */
  #each(visit: (reader: ByteReader, place: number, start: number, end: number) => void): void {
    const reader = new ByteReader(this.#bytes, this.#start, this.#end);
    for (let place = 0; place < this.#count; place++) {
      const length = reader.length();
      const start = reader.at;
      reader.at += length;
      visit(reader, place, start, reader.at);
    }
  }
}

/** Validates headers without decoding them. Throws {@link Malformed}. */
function passHeaders(reader: ByteReader, count: number): void {
  for (let index = 0; index < count; index++) {
    const length = reader.length();
    if (length < 0) throw new Malformed("a header has no name");
    reader.at += length;
    passBytes(reader);
  }
}

function passBytes(reader: ByteReader): void {
  const length = reader.length();
  if (length > 0) reader.at += length;
}

function isSame(known: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let index = 0; index < known.length; index++) {
    if (known[index] !== bytes[start + index]) return false;
  }
  return true;
}

const NONE: HeaderList = Object.freeze({ names: [], values: [] });

/** A record from a log. Its headers become an object on demand, which most records never need. */
export class ReadRecord implements LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly appendTime: boolean;
  readonly key: Buffer | undefined;
  readonly value: Buffer | undefined;
  readonly written: HeaderSource | undefined;
  /** The limit that its headers exceed. */
  readonly #excess: string | undefined;
  #problem: MessagingError | undefined = undefined;
  #headers: Readonly<Record<string, Buffer>> | undefined = undefined;

  constructor(
    topic: string,
    partition: number,
    offset: number,
    timestamp: number,
    appendTime: boolean,
    key: Buffer | undefined,
    value: Buffer | undefined,
    written: HeaderSource | undefined,
    excess: string | undefined,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.offset = offset;
    this.timestamp = timestamp;
    this.appendTime = appendTime;
    this.key = key;
    this.value = value;
    this.written = written;
    this.#excess = excess;
  }

  get problem(): MessagingError | undefined {
    if (this.#excess === undefined) return undefined;
    const where = `the record at offset ${this.offset} of "${this.topic}", partition ${this.partition},`;
    this.#problem ??= new MessagingError("too-large", `${where} has more than ${this.#excess}, which are not read`);
    return this.#problem;
  }

  get headers(): Readonly<Record<string, Buffer>> {
    if (this.#headers === undefined) {
      const headers: Record<string, Buffer> = Object.create(null);
      const { names, values } = this.written?.list() ?? NONE;
      for (let index = 0; index < names.length; index++) headers[names[index] as string] = values[index] as Buffer;
      this.#headers = headers;
    }
    return this.#headers;
  }
}

/** A placeholder for unreadable records. */
export function unreadableRecord(offset: number, extent: BatchExtent, error: MessagingError): LogRecord {
  const { timestamp, appendTime } = extent;
  const headers: Readonly<Record<string, Buffer>> = Object.freeze(Object.create(null));
  return { offset, timestamp, appendTime, key: undefined, value: undefined, headers, unreadable: { ...extent, error } };
}

/** A batch that is partly read. */
interface Begun {
  readonly batch: BatchHeader;
  readonly reader: ByteReader;
  index: number;
  /** The offset of the previous record. */
  previous: number;
}

/** Reads the records of batches, from an offset on, up to the limit. */
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

  /** The batch that is partly read. */
  get begun(): BatchHeader | undefined {
    return this.#begun?.batch;
  }

  /** The next offset: behind the last record read or batch skipped. */
  get nextOffset(): number {
    return this.#nextOffset;
  }

  /** The number of records read at or above an offset. */
  recordsAt(offset: number): number {
    const first = this.records.findIndex((record) => record.offset >= offset);
    return first < 0 ? 0 : this.records.length - first;
  }

  /** Skips a batch with this last offset. */
  pass(lastOffset: number): void {
    this.#nextOffset = Math.max(this.#nextOffset, lastOffset + 1);
  }

  /** Starts a batch whose records are in `bytes` from `start` to `end`. */
  begin(batch: BatchHeader, bytes: Buffer, start: number, end: number): void {
    this.#begun = { batch, reader: new ByteReader(bytes, start, end), index: 0, previous: batch.baseOffset - 1 };
  }

  /**
   * Continues the batch over about so many bytes; returns how many were read. Throws {@link Malformed} behind the last
   * good record.
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
    // The attributes, which have no meaning yet.
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

  /** The limit that the headers exceed. */
  #excess(count: number, bytes: number): string | undefined {
    const { maxHeaders, maxHeaderBytes } = this.#limits;
    if (count > maxHeaders) return `${maxHeaders} headers`;
    return bytes > maxHeaderBytes ? `${maxHeaderBytes} bytes of headers` : undefined;
  }
}

/** The key of the first record. */
export function firstKey(bytes: Buffer, start: number, end: number): Buffer | undefined {
  const reader = new ByteReader(bytes, start, end);
  reader.length();
  reader.byte();
  reader.varlong();
  reader.varint();
  return reader.sized();
}

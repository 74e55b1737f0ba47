import type { MessagingError } from "../../../core/errors.ts";

/** A record on its way into a log. */
export interface RecordToWrite {
  readonly key: Uint8Array | undefined;
  /** Undefined for a tombstone. */
  readonly value: Uint8Array | undefined;
  readonly headers: readonly HeaderToWrite[];
}

/** A header on its way into a log; without a value where that is null. */
export type HeaderToWrite = readonly [name: string, value: string | Uint8Array | undefined];

/** A record as it stands in a log. */
export interface LogRecord {
  readonly offset: number;
  /** Milliseconds since 1970: the producer's clock or the broker's, as the topic says. */
  readonly timestamp: number;
  /** Whether the time is the broker's own, taken as it appended the record. */
  readonly appendTime?: boolean;
  readonly key: Buffer | undefined;
  /** Undefined for a tombstone. */
  readonly value: Buffer | undefined;
  /** Own values on an object without a prototype; of several with one name the last. */
  readonly headers: Readonly<Record<string, Buffer>>;
  /** The headers as they were written, where the record was read from a log: cheaper to go through than `headers`. */
  readonly written?: HeaderSource | undefined;
  /** Why its headers were not read, if they are over the limits; then there are none here. */
  readonly problem?: MessagingError | undefined;
  /** Set on what takes the place of records that cannot be read, from its offset on; it has no content of its own. */
  readonly unreadable?: UnreadableRecords | undefined;
}

/** Records that cannot be read. */
export interface UnreadableRecords extends BatchExtent {
  readonly error: MessagingError;
}

/**
 * Headers in the order in which they were written, the same name possibly several times. `NULL_VALUE` stands for a value
 * that is null.
 */
export interface HeaderList {
  readonly names: readonly string[];
  readonly values: readonly Buffer[];
}

/** Headers that become objects only when somebody asks, each time anew. */
export interface HeaderSource {
  /** How many bytes they take. */
  readonly size: number;
  list(): HeaderList;
  /** The value of the last header of a name; shares the memory of the record. */
  last(name: Buffer): Buffer | undefined;
}

/** What stands in a fetched piece of a log. */
export interface DecodedRecords {
  /** In the order of offsets; without control records, those of aborted transactions, and those before the offset asked for. */
  readonly records: readonly LogRecord[];
  /**
   * Where to read on: behind the last complete batch, also where none of its records is for the reader; before that only
   * where a limit ended the reading, or where it cannot go on.
   */
  readonly nextOffset: number;
  /** What stands at `nextOffset`, if it cannot be read. */
  readonly unreadable: UnreadableBatch | undefined;
}

/** A batch that cannot be read, or not to its end. */
export interface UnreadableBatch {
  readonly offset: number;
  /** `invalid` if it is damaged, `too-large` if it inflates over the limit, `unsupported` for its format or compression. */
  readonly error: MessagingError;
  /** The offset behind it; undefined where it cannot be told, or where another reader, or another try, may read it. */
  readonly resumeAt: number | undefined;
  /** What the batch says of itself, where its checksum is right; undefined where nothing of it is to be trusted. */
  readonly extent?: BatchExtent | undefined;
}

/** How far a batch goes that cannot be read, from the offset of {@link UnreadableBatch} on. */
export interface BatchExtent {
  readonly lastOffset: number;
  /** How many records there are. */
  readonly records: number;
  /** The time of its first record, or of all of them if the broker gave it. Milliseconds since 1970. */
  readonly timestamp: number;
  /** Whether the time is the broker's own. */
  readonly appendTime: boolean;
}

/** How the records of a batch are compressed. */
export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd";

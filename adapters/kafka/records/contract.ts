/** A record on its way into a log. */
export interface RecordToWrite {
  readonly key: Uint8Array | undefined;
  /** Undefined for a tombstone. */
  readonly value: Uint8Array | undefined;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** A record as it stands in a log. */
export interface LogRecord {
  readonly offset: number;
  /** Milliseconds since 1970: the producer's clock or the broker's, as the topic says. */
  readonly timestamp: number;
  readonly key: Buffer | undefined;
  /** Undefined for a tombstone. */
  readonly value: Buffer | undefined;
  /** Own values on an object without a prototype; of several with one name the last. */
  readonly headers: Readonly<Record<string, Buffer>>;
}

/** What stands in a fetched piece of a log. */
export interface DecodedRecords {
  /** In the order of offsets; without control records, those of aborted transactions, and those before the offset asked for. */
  readonly records: readonly LogRecord[];
  /** Where to read on: behind the last complete batch, also where none of its records is for the reader. */
  readonly nextOffset: number;
}

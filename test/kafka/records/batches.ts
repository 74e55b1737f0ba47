import { AT, crc32c } from "../../../adapters/kafka/records/batch.ts";
import type { DecodedRecords, LogRecord, RecordToWrite } from "../../../adapters/kafka/records/contract.ts";
import { type DecodeOptions, decodeRecords } from "../../../adapters/kafka/records/decode.ts";
import { encodeRecordBatch } from "../../../adapters/kafka/records/encode.ts";

/** A batch as it may stand in a log. */
export interface StoredBatch {
  readonly records: readonly RecordToWrite[];
  readonly baseOffset?: number;
  readonly producerId?: bigint;
  readonly attributes?: number;
  /** Changes the bytes before the checksum is made. */
  readonly edit?: (batch: Buffer) => void;
}

/** The bytes of a batch as a broker stores it, not compressed. */
export function stored({ records, baseOffset = 0, producerId = 7n, attributes = 0, edit }: StoredBatch): Buffer {
  const batch = encodeRecordBatch(records, { producerId, epoch: 0, firstSequence: 0, timestamp: 1_000 });
  batch.writeBigInt64BE(BigInt(baseOffset), AT.baseOffset);
  batch.writeInt16BE(attributes, AT.attributes);
  edit?.(batch);
  return withChecksum(batch);
}

/** The same bytes with a right checksum. */
export function withChecksum(batch: Buffer): Buffer {
  batch.writeUInt32BE(crc32c(batch, AT.attributes), AT.crc);
  return batch;
}

/** A record with a value and headers. */
export function record(value: string, headers: RecordToWrite["headers"] = []): RecordToWrite {
  return { key: undefined, value: Buffer.from(value), headers };
}

/** Decodes from offset 0 of a topic `t`, unless told otherwise. */
export function decode(bytes: Buffer, options: Partial<DecodeOptions> = {}): DecodedRecords | Promise<DecodedRecords> {
  return decodeRecords(bytes, { topic: "t", partition: 3, from: 0, abortedTransactions: [], ...options });
}

/** Decodes what needs no inflating. */
export function decodeNow(bytes: Buffer, options: Partial<DecodeOptions> = {}): DecodedRecords {
  const decoded = decode(bytes, options);
  if (decoded instanceof Promise) throw new Error("decoding was not done at once");
  return decoded;
}

export function valuesOf(records: readonly LogRecord[]): (string | undefined)[] {
  return records.map(({ value }) => value?.toString());
}

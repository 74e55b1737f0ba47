import { compress, compressionNumber } from "./compression.ts";
import type { Compression, RecordToWrite } from "./contract.ts";
import { crc32c } from "./crc32c.ts";
import { AT, LENGTH_COVERS_FROM, MAGIC } from "./layout.ts";
import { exactRecordSize, recordSize, writeAsciiRecord, writeRecord } from "./record-writer.ts";

/** Who writes a batch, when and how. */
export interface BatchOptions {
  readonly producerId: bigint;
  readonly epoch: number;
  /** The sequence number of the first record; the others count on from it. */
  readonly firstSequence: number;
  /** Milliseconds since 1970, of every record. */
  readonly timestamp: number;
  /** Default `none`. */
  readonly compression?: Compression;
}

/**
 * Encodes records, at least one, as one batch. At once if it is not compressed; otherwise resolves with it, or rejects
 * with `unsupported` if nothing here can compress so.
 */
export function encodeRecordBatch(
  records: readonly RecordToWrite[],
  options: BatchOptions & { readonly compression?: "none" },
): Buffer;
export function encodeRecordBatch(records: readonly RecordToWrite[], options: BatchOptions): Buffer | Promise<Buffer>;
export function encodeRecordBatch(records: readonly RecordToWrite[], options: BatchOptions): Buffer | Promise<Buffer> {
  const { compression = "none" } = options;
  const batch = writeRecords(records);
  if (compression === "none") return sealed(batch, records.length, options);
  return compressed(compression, batch, records.length, options);
}

async function compressed(
  compression: Exclude<Compression, "none">,
  batch: Buffer,
  count: number,
  options: BatchOptions,
): Promise<Buffer> {
  const records = await compress(compression, batch.subarray(AT.records));
  return sealed(Buffer.concat([batch.subarray(0, AT.records), records]), count, options);
}

/** The records, behind room for what comes before them. */
function writeRecords(records: readonly RecordToWrite[]): Buffer {
  let size: number = AT.records;
  for (let index = 0; index < records.length; index++) size += recordSize(records[index] as RecordToWrite, index);
  let bytes: Buffer = Buffer.allocUnsafe(size);
  let at: number = AT.records;
  for (let index = 0; index < records.length; index++) {
    const record = records[index] as RecordToWrite;
    bytes = withRoom(bytes, at, recordSize(record, index));
    const end = writeAsciiRecord(bytes, at, record, index);
    if (end >= 0) {
      at = end;
      continue;
    }
    bytes = withRoom(bytes, at, exactRecordSize(record, index));
    at = writeRecord(bytes, at, record, index);
  }
  return bytes.subarray(0, at);
}

/** The bytes themselves, or a longer copy of those used if there is too little room behind them. */
function withRoom(bytes: Buffer, used: number, more: number): Buffer {
  if (used + more <= bytes.length) return bytes;
  const longer = Buffer.allocUnsafe(Math.max(bytes.length * 2, used + more));
  bytes.copy(longer, 0, 0, used);
  return longer;
}

/** The batch itself, with everything before the records filled in. */
function sealed(batch: Buffer, count: number, options: BatchOptions): Buffer {
  const { producerId, epoch, firstSequence, timestamp, compression = "none" } = options;
  batch.fill(0, AT.baseOffset, AT.length);
  batch.writeInt32BE(batch.length - LENGTH_COVERS_FROM, AT.length);
  batch.writeInt32BE(-1, AT.leaderEpoch);
  batch.writeInt8(MAGIC, AT.magic);
  batch.writeInt16BE(compressionNumber(compression), AT.attributes);
  batch.writeInt32BE(count - 1, AT.lastOffsetDelta);
  batch.writeBigInt64BE(BigInt(timestamp), AT.baseTimestamp);
  batch.writeBigInt64BE(BigInt(timestamp), AT.maxTimestamp);
  batch.writeBigInt64BE(producerId, AT.producerId);
  batch.writeInt16BE(epoch, AT.producerEpoch);
  batch.writeInt32BE(firstSequence, AT.baseSequence);
  batch.writeInt32BE(count, AT.count);
  batch.writeUInt32BE(crc32c(batch, AT.attributes), AT.crc);
  return batch;
}

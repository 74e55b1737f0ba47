import { AT, crc32c, LENGTH_COVERS_FROM, MAGIC } from "./batch.ts";
import { sizeOfLength, writeLength } from "./byte-reader.ts";
import { type Compression, compress, compressionNumber, type HeaderToWrite, type RecordToWrite } from "./contract.ts";

/** The attributes and the timestamp delta, both 0. */
const FIXED_BYTES = 2;
/** Up to this length a loop is faster than a call into Node. */
const SHORT_TEXT = 48;
const NOT_ASCII = -1;
/** The length of null. */
const NULL_BYTES = 1;

/** The size of a record in a batch, if its headers are ASCII. */
export function recordSize(record: RecordToWrite, offsetDelta: number): number {
  const body = bodySize(record, offsetDelta);
  return sizeOfLength(body) + body;
}

/** The size of a record in a batch, for any headers. */
function exactRecordSize(record: RecordToWrite, offsetDelta: number): number {
  const body = exactBodySize(record, offsetDelta);
  return sizeOfLength(body) + body;
}

/** Writes a record into at least `recordSize` bytes. Returns the position after it, or -1 if a header is not ASCII. */
function writeAsciiRecord(bytes: Buffer, position: number, record: RecordToWrite, offsetDelta: number): number {
  let at = writePrefix(bytes, position, record, offsetDelta, bodySize(record, offsetDelta));
  const { headers } = record;
  for (let index = 0; index < headers.length; index++) {
    const [name, value] = headers[index] as HeaderToWrite;
    at = writeAscii(bytes, at, name);
    if (at === NOT_ASCII) return NOT_ASCII;
    at = typeof value === "string" ? writeAscii(bytes, at, value) : writeBytes(bytes, at, value);
    if (at === NOT_ASCII) return NOT_ASCII;
  }
  return at;
}

/** Writes a record into at least `exactRecordSize` bytes. Returns the position after it. */
function writeRecord(bytes: Buffer, position: number, record: RecordToWrite, offsetDelta: number): number {
  let at = writePrefix(bytes, position, record, offsetDelta, exactBodySize(record, offsetDelta));
  for (const [name, value] of record.headers) {
    at = writeBytes(bytes, at, Buffer.from(name));
    at = writeBytes(bytes, at, typeof value === "string" ? Buffer.from(value) : value);
  }
  return at;
}

function bodySize(record: RecordToWrite, offsetDelta: number): number {
  const { headers } = record;
  let size = sizeWithoutHeaders(record, offsetDelta);
  for (let index = 0; index < headers.length; index++) {
    const [name, value] = headers[index] as HeaderToWrite;
    size += sizeOfLength(name.length) + name.length;
    size += value === undefined ? NULL_BYTES : sizeOfLength(value.length) + value.length;
  }
  return size;
}

function exactBodySize(record: RecordToWrite, offsetDelta: number): number {
  let size = sizeWithoutHeaders(record, offsetDelta);
  for (const [name, value] of record.headers) {
    const length = Buffer.byteLength(name);
    size += sizeOfLength(length) + length;
    size += sizeOfBytes(typeof value === "string" ? Buffer.from(value) : value);
  }
  return size;
}

function sizeWithoutHeaders({ key, value, headers }: RecordToWrite, offsetDelta: number): number {
  return FIXED_BYTES + sizeOfLength(offsetDelta) + sizeOfBytes(key) + sizeOfBytes(value) + sizeOfLength(headers.length);
}

function sizeOfBytes(bytes: Uint8Array | undefined): number {
  return bytes === undefined ? NULL_BYTES : sizeOfLength(bytes.length) + bytes.length;
}

/** Everything before the headers. */
function writePrefix(
  bytes: Buffer,
  position: number,
  { key, value, headers }: RecordToWrite,
  offsetDelta: number,
  body: number,
): number {
  let at = writeLength(bytes, position, body);
  bytes[at++] = 0;
  bytes[at++] = 0;
  at = writeLength(bytes, at, offsetDelta);
  at = writeBytes(bytes, at, key);
  at = writeBytes(bytes, at, value);
  return writeLength(bytes, at, headers.length);
}

function writeBytes(bytes: Buffer, position: number, written: Uint8Array | undefined): number {
  if (written === undefined) return writeLength(bytes, position, -1);
  const at = writeLength(bytes, position, written.length);
  bytes.set(written, at);
  return at + written.length;
}

function writeAscii(bytes: Buffer, position: number, text: string): number {
  const { length } = text;
  const at = writeLength(bytes, position, length);
  if (length <= SHORT_TEXT) {
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return NOT_ASCII;
      bytes[at + index] = code;
    }
    return at + length;
  }
  if (Buffer.byteLength(text) !== length) return NOT_ASCII;
  bytes.write(text, at, "latin1");
  return at + length;
}

/** The fields of a batch. */
interface BatchOptions {
  readonly producerId: bigint;
  readonly epoch: number;
  /** The sequence number of the first record. */
  readonly firstSequence: number;
  /** Of every record. Milliseconds since 1970. */
  readonly timestamp: number;
  /** Default `none`. */
  readonly compression?: Compression;
  /** The most bytes that readers inflate a batch to; larger ones are not compressed. Default: no limit. */
  readonly maxInflatedBytes?: number;
}

/**
 * Encodes at least one record as a batch. Synchronous without compression, or if readers could not inflate it; otherwise
 * resolves with it, or rejects with `unsupported` without a codec.
 */
export function encodeRecordBatch(
  records: readonly RecordToWrite[],
  options: BatchOptions & { readonly compression?: "none" },
): Buffer;
export function encodeRecordBatch(records: readonly RecordToWrite[], options: BatchOptions): Buffer | Promise<Buffer>;
export function encodeRecordBatch(records: readonly RecordToWrite[], options: BatchOptions): Buffer | Promise<Buffer> {
  const { compression = "none", maxInflatedBytes = Number.POSITIVE_INFINITY } = options;
  const batch = writeRecords(records);
  if (compression === "none" || batch.length - AT.records > maxInflatedBytes) {
    return sealed(batch, records.length, { ...options, compression: "none" });
  }
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

/** The records, behind room for the batch header. */
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

/** The same bytes, or a longer copy if they have too little room. */
function withRoom(bytes: Buffer, used: number, more: number): Buffer {
  if (used + more <= bytes.length) return bytes;
  const longer = Buffer.allocUnsafe(Math.max(bytes.length * 2, used + more));
  bytes.copy(longer, 0, 0, used);
  return longer;
}

/** Fills in the batch header. */
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

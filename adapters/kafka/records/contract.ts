import { promisify } from "node:util";
import * as zlib from "node:zlib";
import kafkajs from "kafkajs";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";

/** A record to write. */
export interface RecordToWrite {
  readonly key: Uint8Array | undefined;
  /** Undefined for a tombstone. */
  readonly value: Uint8Array | undefined;
  readonly headers: readonly HeaderToWrite[];
}

/** A header to write; undefined for null. */
export type HeaderToWrite = readonly [name: string, value: string | Uint8Array | undefined];

/** A record in a log. */
export interface LogRecord {
  readonly offset: number;
  /** Milliseconds since 1970, by the producer's or the broker's clock, depending on the topic. */
  readonly timestamp: number;
  /** Whether the broker set the time when it appended the record. */
  readonly appendTime?: boolean;
  readonly key: Buffer | undefined;
  /** Undefined for a tombstone. */
  readonly value: Buffer | undefined;
  /** Own properties of an object without a prototype. Of several headers with one name, the last. */
  readonly headers: Readonly<Record<string, Buffer>>;
  /** The headers as written, if the record was read from a log: cheaper than `headers`. */
  readonly written?: HeaderSource | undefined;
  /** Why the headers were not read, if they exceed the limits. */
  readonly problem?: MessagingError | undefined;
  /** Set on a placeholder for unreadable records from its offset on. */
  readonly unreadable?: UnreadableRecords | undefined;
}

/** Records that cannot be read. */
interface UnreadableRecords extends BatchExtent {
  readonly error: MessagingError;
}

/** Headers in their order, with duplicates. `NULL_VALUE` means null. */
export interface HeaderList {
  readonly names: readonly string[];
  readonly values: readonly Buffer[];
}

/** Headers that are decoded on demand, each time anew. */
export interface HeaderSource {
  /** Their bytes. */
  readonly size: number;
  list(): HeaderList;
  /** The value of the last header with this name. Shares the record's memory. */
  last(name: Buffer): Buffer | undefined;
}

/** The content of a fetched part of a log. */
export interface DecodedRecords {
  /** In the order of offsets, without control records, aborted transactions and earlier offsets. */
  readonly records: readonly LogRecord[];
  /**
   * The next offset to read: behind the last complete batch, or where a limit or an unreadable batch ended the reading.
   */
  readonly nextOffset: number;
  /** What is at `nextOffset`, if it cannot be read. */
  readonly unreadable: UnreadableBatch | undefined;
}

/** A batch that cannot be read completely. */
export interface UnreadableBatch {
  readonly offset: number;
  /**
   * `invalid` if it is damaged, `too-large` if it inflates over the limit, `unsupported` for its format or compression.
   */
  readonly error: MessagingError;
  /** The offset behind it; undefined if unknown, or if another reader or attempt may read it. */
  readonly resumeAt: number | undefined;
  /** The batch's own extent, if its checksum is right. */
  readonly extent?: BatchExtent | undefined;
}

/** The extent of an unreadable batch from the offset of {@link UnreadableBatch} on. */
export interface BatchExtent {
  readonly lastOffset: number;
  /** How many records there are. */
  readonly records: number;
  /** The time of its first record, or of all if the broker set it. Milliseconds since 1970. */
  readonly timestamp: number;
  /** Whether the broker set the time. */
  readonly appendTime: boolean;
}

/** The compression of a batch. */
export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd";

/** A codec registered with kafkajs: `CompressionCodecs[CompressionTypes.Snappy] = () => codec`. */
interface RegisteredCodec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
}

const TYPES = Object.freeze({ snappy: 2, lz4: 3, zstd: 4 });

/** The codec registered with kafkajs; undefined for none. */
function registeredCodec(compression: Exclude<Compression, "none" | "gzip">): RegisteredCodec | undefined {
  const codecs = kafkajs.CompressionCodecs as unknown as Readonly<Record<number, (() => unknown) | undefined>>;
  try {
    return codecs[TYPES[compression]]?.() as RegisteredCodec | undefined;
  } catch {
    // kafkajs' placeholder for a missing codec throws.
    return undefined;
  }
}

/** By their number in a batch. */
const COMPRESSIONS: readonly Compression[] = ["none", "gzip", "snappy", "lz4", "zstd"];

const gzip = promisify<Buffer, Buffer>(zlib.gzip);
const gunzip = promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip);

/** The number of a compression in a batch's attributes. */
export function compressionNumber(compression: Compression): number {
  return COMPRESSIONS.indexOf(compression);
}

/** The compression of a number; undefined for an unknown one. */
export function compressionOf(number: number): Compression | undefined {
  return COMPRESSIONS[number];
}

/** Whether batches with this compression can be written and read here. */
export function hasCodec(compression: Compression): boolean {
  if (compression === "none" || compression === "gzip") return true;
  if (compression === "zstd" && zlib.zstdDecompress !== undefined) return true;
  return registeredCodec(compression) !== undefined;
}

/** Throws `unsupported`, with what to install, if there is no codec. */
export function checkCompression(compression: Compression): void {
  if (!hasCodec(compression)) throw noCodec(compression);
}

/** The compression that brokers store records in under a topic's `compression.type`: `none` if they leave it to senders. */
export function storedCompression(type: string | undefined): Compression {
  return COMPRESSIONS.find((compression) => compression === type) ?? "none";
}

/** Compresses. Rejects with `unsupported` without a codec. */
export async function compress(compression: Exclude<Compression, "none">, bytes: Buffer): Promise<Buffer> {
  if (compression === "gzip") return gzip(bytes);
  if (compression === "zstd" && zlib.zstdCompress !== undefined) {
    return promisify<Buffer, Buffer>(zlib.zstdCompress)(bytes);
  }
  const codec = registeredCodec(compression);
  if (codec === undefined) throw noCodec(compression);
  return asBuffer(await codec.compress({ buffer: bytes }));
}

/**
 * Inflates. Rejects with `unsupported` without a codec, `too-large` over `mostBytes`, or `invalid` for damaged data.
 * Registered codecs have no limit: their result is checked afterwards.
 */
export async function inflate(
  compression: Exclude<Compression, "none">,
  bytes: Buffer,
  mostBytes: number,
): Promise<Buffer> {
  const limit = { maxOutputLength: mostBytes };
  if (compression === "gzip") return refusing(compression, mostBytes, gunzip(bytes, limit));
  if (compression === "zstd" && zlib.zstdDecompress !== undefined) {
    return refusing(compression, mostBytes, unzstd(bytes, mostBytes));
  }
  const codec = registeredCodec(compression);
  if (codec === undefined) throw noCodec(compression);
  const inflated = asBuffer(await refusing(compression, mostBytes, codec.decompress(bytes)));
  if (inflated.length > mostBytes) throw tooLarge(compression, mostBytes);
  return inflated;
}

/** Inflates all frames: Node stops behind the first, and gives nothing of what follows. */
async function unzstd(bytes: Buffer, mostBytes: number): Promise<Buffer> {
  const inflateFrame = promisify<Buffer, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);
  const parts: Buffer[] = [];
  let left = mostBytes;
  for (const frame of zstdFrames(bytes)) {
    const part = await inflateFrame(frame, { maxOutputLength: Math.max(left, 1) });
    left -= part.length;
    if (left < 0) throw tooLarge("zstd", mostBytes);
    parts.push(part);
  }
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
}

async function refusing(compression: Compression, mostBytes: number, work: Promise<Buffer>): Promise<Buffer> {
  try {
    return await work;
  } catch (error) {
    if (isMessagingError(error)) throw error;
    if ((error as NodeJS.ErrnoException | undefined)?.code === "ERR_BUFFER_TOO_LARGE") {
      throw tooLarge(compression, mostBytes, error);
    }
    throw new MessagingError("invalid", `its ${compression} data is damaged`, { cause: error });
  }
}

function tooLarge(compression: Compression, mostBytes: number, cause?: unknown): MessagingError {
  return new MessagingError("too-large", `its ${compression} data inflates to more than ${mostBytes} bytes`, { cause });
}

function noCodec(compression: Compression): MessagingError {
  const next = `register one: CompressionCodecs[CompressionTypes.…] = codec, from "kafkajs"`;
  return new MessagingError("unsupported", `there is no codec for ${compression} here; ${next}`);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The limits of reading a log. */
export interface DecodeLimits {
  /** The most headers of a record. Default 1,000. */
  readonly maxHeaders: number;
  /** The most bytes of a record's headers, with lengths. Default 256 KiB. */
  readonly maxHeaderBytes: number;
  /**
   * The most bytes that a batch may inflate to; one call inflates less than twice as much. Registered codecs are
   * checked afterwards. Default 64 MiB.
   */
  readonly maxInflatedBytes: number;
  /** The most records of a call; the next call continues there. Default 100,000. */
  readonly maxRecords: number;
}

export const DEFAULT_LIMITS: DecodeLimits = Object.freeze({
  maxHeaders: 1_000,
  maxHeaderBytes: 256 * 1024,
  maxInflatedBytes: 64 * 1024 * 1024,
  maxRecords: 100_000,
});

/*
 * Where the frames of zstd data begin and end (RFC 8878, section 3.1), without a look into their blocks.
 */

const FRAME = 0xfd2fb528;
/** Of these sixteen, which hold what a reader passes over. */
const SKIPPABLE = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const MAGIC_BYTES = 4;
const SKIPPABLE_HEADER_BYTES = 8;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const RLE = 1;

const SINGLE_SEGMENT = 0x20;
const CHECKSUM = 0x04;
/** By the lowest two bits of the descriptor, and by its highest two. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

/** Each costs a call. Streaming compressors write blocks, not frames. */
const MAX_FRAMES = 10_000;

/** The frames that hold something, in order. Shares the memory. Throws a `RangeError` for what is no row of frames. */
function zstdFrames(bytes: Buffer): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const magic = bytes.readUInt32LE(start);
    const isSkippable = (magic & SKIPPABLE_MASK) === SKIPPABLE;
    if (!isSkippable && magic !== FRAME) throw new RangeError(`no zstd frame begins at byte ${start}`);
    const end = isSkippable
      ? start + SKIPPABLE_HEADER_BYTES + bytes.readUInt32LE(start + MAGIC_BYTES)
      : frameEnd(bytes, start);
    if (end > bytes.length) throw new RangeError(`the zstd frame at byte ${start} is cut off`);
    if (!isSkippable) frames.push(bytes.subarray(start, end));
    if (frames.length > MAX_FRAMES) throw new RangeError(`there are more than ${MAX_FRAMES} zstd frames`);
    start = end;
  }
  if (frames.length === 0) throw new RangeError("there is no zstd frame");
  return frames;
}

function frameEnd(bytes: Buffer, start: number): number {
  const descriptor = bytes.readUInt8(start + MAGIC_BYTES);
  const isSingle = (descriptor & SINGLE_SEGMENT) !== 0;
  const sizeFlag = descriptor >> 6;
  const contentSizeBytes = sizeFlag === 0 && isSingle ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  const windowBytes = isSingle ? 0 : 1;
  let at = start + MAGIC_BYTES + 1 + windowBytes + (DICTIONARY_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;
  for (let isLast = false; !isLast; ) {
    const header = bytes.readUIntLE(at, BLOCK_HEADER_BYTES);
    isLast = (header & 1) === 1;
    const type = (header >> 1) & 3;
    at += BLOCK_HEADER_BYTES + (type === RLE ? 1 : header >> 3);
  }
  return (descriptor & CHECKSUM) === 0 ? at : at + CHECKSUM_BYTES;
}

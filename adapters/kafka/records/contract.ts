import { promisify } from "node:util";
import * as zlib from "node:zlib";
import kafkajs from "kafkajs";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { zstdFrames } from "./zstd-frames.ts";

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
interface UnreadableRecords extends BatchExtent {
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

/** A codec as users register it with kafkajs: `CompressionCodecs[CompressionTypes.Snappy] = () => codec`. */
interface RegisteredCodec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
}

const TYPES = Object.freeze({ snappy: 2, lz4: 3, zstd: 4 });

/** The codec that was registered with kafkajs for a compression; undefined if none was. */
function registeredCodec(compression: Exclude<Compression, "none" | "gzip">): RegisteredCodec | undefined {
  const codecs = kafkajs.CompressionCodecs as unknown as Readonly<Record<number, (() => unknown) | undefined>>;
  try {
    return codecs[TYPES[compression]]?.() as RegisteredCodec | undefined;
  } catch {
    // What kafkajs has in the place of a codec that was never registered throws.
    return undefined;
  }
}

/** Compressions by their number in a batch. */
const COMPRESSIONS: readonly Compression[] = ["none", "gzip", "snappy", "lz4", "zstd"];

const gzip = promisify<Buffer, Buffer>(zlib.gzip);
const gunzip = promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip);

/** The number of a compression in the attributes of a batch. */
export function compressionNumber(compression: Compression): number {
  return COMPRESSIONS.indexOf(compression);
}

/** The compression of a number; undefined if Kafka has none of it. */
export function compressionOf(number: number): Compression | undefined {
  return COMPRESSIONS[number];
}

/** Throws `unsupported`, saying what to install, if nothing here can compress and inflate so. */
export function checkCompression(compression: Compression): void {
  if (compression === "none" || compression === "gzip") return;
  if (compression === "zstd" && zlib.zstdDecompress !== undefined) return;
  if (registeredCodec(compression) === undefined) throw noCodec(compression);
}

/** Compresses. Rejects with `unsupported` if nothing here can. */
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
 * Inflates. Rejects with `unsupported` if nothing here can, `too-large` if it comes to more than `mostBytes`, `invalid`
 * if it is damaged. A registered codec has no limit to give: what it inflates is measured when it is there.
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

/** What reading a log may take, whatever stands in it. */
export interface DecodeLimits {
  /** The most headers of a record. Default 1,000. */
  readonly maxHeaders: number;
  /** The most bytes of a record's headers, their lengths included. Default 256 KiB. */
  readonly maxHeaderBytes: number;
  /**
   * The most bytes that a batch may inflate to; what one call inflates stays below twice as many. Default 64 MiB. Has no
   * hold on codecs registered with kafkajs, except that a result over it is refused.
   */
  readonly maxInflatedBytes: number;
  /** The most records of one call; the next goes on where it ended. Default 100,000. */
  readonly maxRecords: number;
}

export const DEFAULT_LIMITS: DecodeLimits = Object.freeze({
  maxHeaders: 1_000,
  maxHeaderBytes: 256 * 1024,
  maxInflatedBytes: 64 * 1024 * 1024,
  maxRecords: 100_000,
});

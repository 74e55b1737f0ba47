import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { MessagingError } from "../../../core/errors.ts";
import type { Compression } from "./contract.ts";
import { registeredCodec } from "./registered-codecs.ts";

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
    const unzstd = promisify<Buffer, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);
    return refusing(compression, mostBytes, unzstd(bytes, limit));
  }
  const codec = registeredCodec(compression);
  if (codec === undefined) throw noCodec(compression);
  const inflated = asBuffer(await refusing(compression, mostBytes, codec.decompress(bytes)));
  if (inflated.length > mostBytes) throw tooLarge(compression, mostBytes);
  return inflated;
}

async function refusing(compression: Compression, mostBytes: number, work: Promise<Buffer>): Promise<Buffer> {
  try {
    return await work;
  } catch (error) {
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

import { MessagingError } from "../../../core/errors.ts";
import { compressionOf } from "./compression.ts";
import type { Compression } from "./contract.ts";
import { crc32c } from "./crc32c.ts";
import {
  AT,
  COMPRESSION_BITS,
  CONTROL,
  LEAST_LENGTH,
  LENGTH_COVERS_FROM,
  LOG_APPEND_TIME,
  MAGIC,
  TRANSACTIONAL,
} from "./layout.ts";

/** What stands before the records of a batch. */
export interface BatchHeader {
  /** Where it begins in what was fetched, and the position behind it. */
  readonly start: number;
  readonly end: number;
  readonly baseOffset: number;
  readonly lastOffset: number;
  /** Undefined for a number that is none of Kafka's. */
  readonly compression: Compression | undefined;
  readonly compressionNumber: number;
  readonly isControl: boolean;
  readonly isTransactional: boolean;
  readonly baseTimestamp: number;
  /** The time of every record, if the broker gave it. */
  readonly appendedAt: number | undefined;
  readonly count: number;
}

/** The position behind the batch that begins at one; undefined if it is cut off. Throws if it is none. */
export function batchEnd(bytes: Buffer, start: number): number | undefined {
  if (bytes.length - start <= AT.magic) return undefined;
  const magic = bytes.readInt8(start + AT.magic);
  if (magic !== MAGIC) {
    const next = "read them with an older client, or let them expire";
    throw new MessagingError(
      "unsupported",
      `its format is version ${magic}, and only ${MAGIC} is read (Kafka 0.11 and later); ${next}`,
    );
  }
  const length = bytes.readInt32BE(start + AT.length);
  if (length < LEAST_LENGTH) throw damaged(`its length is given as ${length}`);
  const end = start + LENGTH_COVERS_FROM + length;
  return end <= bytes.length ? end : undefined;
}

/** Reads what stands before the records. Throws if its checksum is wrong, or what it says cannot be. */
export function readBatchHeader(bytes: Buffer, start: number, end: number): BatchHeader {
  if (crc32c(bytes, start + AT.attributes, end) !== bytes.readUInt32BE(start + AT.crc)) {
    throw damaged("its checksum is wrong");
  }
  const attributes = bytes.readInt16BE(start + AT.attributes);
  const baseOffset = readLong(bytes, start + AT.baseOffset);
  const lastOffset = baseOffset + bytes.readInt32BE(start + AT.lastOffsetDelta);
  if (baseOffset < 0 || lastOffset < baseOffset || lastOffset >= Number.MAX_SAFE_INTEGER) {
    throw damaged("its offsets are wrong");
  }
  const compressionNumber = attributes & COMPRESSION_BITS;
  const count = bytes.readInt32BE(start + AT.count);
  if (count < 0) throw damaged(`it says to hold ${count} records`);
  return {
    start,
    end,
    baseOffset,
    lastOffset,
    compression: compressionOf(compressionNumber),
    compressionNumber,
    isControl: (attributes & CONTROL) !== 0,
    isTransactional: (attributes & TRANSACTIONAL) !== 0,
    baseTimestamp: readLong(bytes, start + AT.baseTimestamp),
    appendedAt: (attributes & LOG_APPEND_TIME) === 0 ? undefined : readLong(bytes, start + AT.maxTimestamp),
    count,
  };
}

/** The producer that wrote a batch. */
export function producerOf(bytes: Buffer, batch: BatchHeader): bigint {
  return bytes.readBigInt64BE(batch.start + AT.producerId);
}

/** A whole number of 64 bits, exact up to 2^53. */
function readLong(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

function damaged(what: string): MessagingError {
  return new MessagingError("invalid", `it is damaged: ${what}`);
}

import { setImmediate as nextTurn } from "node:timers/promises";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { FetchedPartition, TopicPartition } from "../port.ts";
import { AT, type BatchHeader, batchEnd, producerOf, readBatchHeader } from "./batch.ts";
import { Malformed } from "./byte-reader.ts";
import {
  type BatchExtent,
  type Compression,
  DEFAULT_LIMITS,
  type DecodedRecords,
  type DecodeLimits,
  inflate,
  type UnreadableBatch,
} from "./contract.ts";
import { firstKey, RecordReader } from "./read.ts";

type Aborted = FetchedPartition["abortedTransactions"];

const ABORT = 0;

/** Finds the batches of aborted transactions, reading a log in order. */
class AbortedTransactions {
  /** By first offset, the latest first. */
  readonly #coming: { readonly producerId: bigint; readonly firstOffset: number }[];
  readonly #open = new Set<bigint>();

  constructor(aborted: Aborted) {
    this.#coming = aborted.length === 0 ? [] : [...aborted].sort((a, b) => b.firstOffset - a.firstOffset);
  }

  /** Whether no more batches can be aborted. */
  get isEmpty(): boolean {
    return this.#coming.length === 0 && this.#open.size === 0;
  }

  /** Advances to a batch with this last offset. */
  advanceTo(lastOffset: number): void {
    for (
      let next = this.#coming.at(-1);
      next !== undefined && next.firstOffset <= lastOffset;
      next = this.#coming.at(-1)
    ) {
      this.#open.add(next.producerId);
      this.#coming.pop();
    }
  }

  /** Whether transactional records of the producer are aborted here. */
  has(producerId: bigint): boolean {
    return this.#open.has(producerId);
  }

  /** Applies a control record. */
  end(producerId: bigint, key: Buffer | undefined): void {
    if (key === undefined || key.length < 4) throw new Malformed("a control record has no type");
    if (key.readInt16BE(2) === ABORT) this.#open.delete(producerId);
  }
}

/** The partition, for errors, and what is wanted of it. */
export interface DecodeOptions extends TopicPartition {
  /** The requested offset. */
  readonly from: number;
  readonly abortedTransactions: FetchedPartition["abortedTransactions"];
  readonly limits?: Partial<DecodeLimits>;
}

type CompressedBatch = BatchHeader & { readonly compression: Exclude<Compression, "none"> };

/** The bytes read in one turn of the event loop: about ten milliseconds. */
const BYTES_PER_TURN = 4 * 1024 * 1024;

/**
 * Decodes the record batches of a fetch: the first may begin before the requested offset, the last may be cut off.
 * Synchronous for small uncompressed data; otherwise yields to the event loop. Never throws or rejects: the result says
 * what is unreadable. Keys, values and headers share the memory of `bytes`.
 */
export function decodeRecords(bytes: Buffer, options: DecodeOptions): DecodedRecords | Promise<DecodedRecords> {
  const decoding = new Decoding(bytes, options);
  const wait = decoding.advance();
  return wait === undefined ? decoding.result : goOn(decoding, wait);
}

async function goOn(decoding: Decoding, first: Wait): Promise<DecodedRecords> {
  for (let wait: Wait | undefined = first; wait !== undefined; wait = decoding.advance()) {
    if (wait === "turn") await nextTurn();
    else await decoding.inflate(wait);
  }
  return decoding.result;
}

/** What decoding waits for: the next turn, or a batch to inflate. */
type Wait = "turn" | CompressedBatch;

class Decoding {
  readonly #bytes: Buffer;
  readonly #options: DecodeOptions;
  readonly #mostInflated: number;
  readonly #reader: RecordReader;
  readonly #aborted: AbortedTransactions;
  /** Where the next batch begins, and its least offset. */
  #position = 0;
  #leastOffset = 0;
  #inflated = 0;
  /** The bytes left for this turn. */
  #left = 0;
  #isOver = false;
  #unreadable: UnreadableBatch | undefined;

  constructor(bytes: Buffer, options: DecodeOptions) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#bytes = bytes;
    this.#options = options;
    this.#mostInflated = limits.maxInflatedBytes;
    this.#reader = new RecordReader(options, options.from, limits);
    this.#aborted = new AbortedTransactions(options.abortedTransactions);
  }

  get result(): DecodedRecords {
    const { records, nextOffset } = this.#reader;
    return { records, nextOffset, unreadable: this.#unreadable };
  }

  /** Continues for at most one turn; undefined when done. */
  advance(): Wait | undefined {
    this.#left = BYTES_PER_TURN;
    while (!this.#isOver && !this.#reader.isFull) {
      if (this.#left <= 0) return "turn";
      const { begun } = this.#reader;
      if (begun !== undefined) {
        this.#readOn(begun);
        continue;
      }
      const batch = this.#next();
      if (batch === undefined) return undefined;
      if (batch === "turn") return batch;
      if (batch.compression === undefined) {
        this.#stop(unknownCompression(batch), batch);
        return undefined;
      }
      if (isCompressed(batch)) {
        // Limits the memory of a call; the next call starts with this batch.
        if (this.#inflated >= this.#mostInflated) return undefined;
        return batch;
      }
      this.#begin(batch, this.#bytes, batch.start + AT.records, batch.end);
    }
    return undefined;
  }

  /** Inflates and starts a batch that {@link advance} returned. */
  async inflate(batch: CompressedBatch): Promise<void> {
    try {
      const records = this.#bytes.subarray(batch.start + AT.records, batch.end);
      const inflated = await inflate(batch.compression, records, this.#mostInflated);
      this.#inflated += inflated.length;
      this.#begin(batch, inflated, 0, inflated.length);
    } catch (error) {
      this.#stop(error, batch);
    }
  }

  /** The next batch with records for the reader; undefined for none. */
  #next(): BatchHeader | "turn" | undefined {
    while (!this.#isOver) {
      if (this.#left <= 0) return "turn";
      const batch = this.#nextHeader();
      if (batch === undefined) return undefined;
      this.#position = batch.end;
      this.#leastOffset = batch.lastOffset + 1;
      if (!this.#aborted.isEmpty) this.#aborted.advanceTo(batch.lastOffset);
      if (batch.count > 0 && !this.#isPassed(batch)) return batch;
      this.#reader.pass(batch.lastOffset);
    }
    return undefined;
  }

  #nextHeader(): BatchHeader | undefined {
    const start = this.#position;
    if (start === this.#bytes.length) return undefined;
    try {
      const end = batchEnd(this.#bytes, start);
      if (end === undefined) {
        if (start === 0) throw cutOff(this.#bytes.length);
        return undefined;
      }
      // The checksum reads these bytes.
      this.#left -= end - start;
      const batch = readBatchHeader(this.#bytes, start, end);
      if (batch.baseOffset < this.#leastOffset) {
        throw new MessagingError("invalid", "it is damaged: its offsets come before those of the batch before it");
      }
      return batch;
    } catch (error) {
      this.#stop(error, undefined);
      return undefined;
    }
  }

  #isPassed(batch: BatchHeader): boolean {
    if (batch.isControl) return this.#aborted.isEmpty;
    if (batch.lastOffset < this.#options.from) return true;
    return batch.isTransactional && !this.#aborted.isEmpty && this.#aborted.has(producerOf(this.#bytes, batch));
  }

  #begin(batch: BatchHeader, bytes: Buffer, start: number, end: number): void {
    try {
      if (batch.isControl) {
        this.#aborted.end(producerOf(this.#bytes, batch), firstKey(bytes, start, end));
        this.#reader.pass(batch.lastOffset);
      } else {
        this.#reader.begin(batch, bytes, start, end);
      }
    } catch (error) {
      this.#stop(error, batch);
    }
  }

  #readOn(batch: BatchHeader): void {
    try {
      this.#left -= this.#reader.readOn(this.#left);
    } catch (error) {
      this.#stop(error, batch);
    }
  }

  /** Ends the reading. `batch` is given if its checksum was right, so that its last offset is valid. */
  #stop(error: unknown, batch: BatchHeader | undefined): void {
    this.#isOver = true;
    const { topic, partition } = this.#options;
    if (batch !== undefined) this.#reader.pass(batch.baseOffset - 1);
    const offset = this.#reader.nextOffset;
    const code = isMessagingError(error) ? error.code : "invalid";
    const what = isMessagingError(error) ? error.message : `it is damaged: ${(error as Error).message}`;
    const text = `the batch at offset ${offset} of "${topic}", partition ${partition}, cannot be read: ${what}`;
    this.#unreadable = {
      offset,
      error: new MessagingError(code, text, { cause: isMessagingError(error) ? error.cause : error }),
      resumeAt: batch === undefined || code === "unsupported" ? undefined : batch.lastOffset + 1,
      extent:
        batch === undefined || batch.isControl ? undefined : extentOf(batch, this.#reader.recordsAt(batch.baseOffset)),
    };
  }
}

/** What remains of a batch after so many records. */
function extentOf(batch: BatchHeader, read: number): BatchExtent {
  const { lastOffset, count, appendedAt, baseTimestamp } = batch;
  return {
    lastOffset,
    records: Math.max(count - read, 1),
    timestamp: appendedAt ?? baseTimestamp,
    appendTime: appendedAt !== undefined,
  };
}

function unknownCompression({ compressionNumber }: BatchHeader): MessagingError {
  return new MessagingError("unsupported", `its compression has the unknown number ${compressionNumber}`);
}

function isCompressed(batch: BatchHeader): batch is CompressedBatch {
  return batch.compression !== undefined && batch.compression !== "none";
}

/** Brokers send the first batch whole, also over the requested size. */
function cutOff(bytes: number): MessagingError {
  return new MessagingError("invalid", `only ${bytes} bytes of it came; fetch it again`);
}

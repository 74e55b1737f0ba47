import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { FetchedPartition, TopicPartition } from "../port.ts";
import { AbortedTransactions } from "./aborted-transactions.ts";
import { type BatchHeader, batchEnd, producerOf, readBatchHeader } from "./batch-header.ts";
import { inflate } from "./compression.ts";
import type { BatchExtent, Compression, DecodedRecords, UnreadableBatch } from "./contract.ts";
import { AT } from "./layout.ts";
import { DEFAULT_LIMITS, type DecodeLimits } from "./limits.ts";
import { firstKey, RecordReader } from "./record-reader.ts";

/** Whose log it is, for errors to say, and what of it is wanted. */
export interface DecodeOptions extends TopicPartition {
  /** The offset asked for. */
  readonly from: number;
  readonly abortedTransactions: FetchedPartition["abortedTransactions"];
  readonly limits?: Partial<DecodeLimits>;
}

type CompressedBatch = BatchHeader & { readonly compression: Exclude<Compression, "none"> };

/**
 * Reads the record batches in a piece of a log, as a broker answers with: the first may begin before the offset asked
 * for, the last may be cut off. At once if none of them is compressed. Never throws or rejects: what cannot be read ends
 * the reading and is in the result. Keys, values and headers share the memory of `bytes`.
 */
export function decodeRecords(bytes: Buffer, options: DecodeOptions): DecodedRecords | Promise<DecodedRecords> {
  const decoding = new Decoding(bytes, options);
  const compressed = decoding.advance();
  return compressed === undefined ? decoding.result : inflateOn(decoding, compressed);
}

async function inflateOn(decoding: Decoding, first: CompressedBatch): Promise<DecodedRecords> {
  for (let batch: CompressedBatch | undefined = first; batch !== undefined; batch = decoding.advance()) {
    await decoding.inflate(batch);
  }
  return decoding.result;
}

class Decoding {
  readonly #bytes: Buffer;
  readonly #options: DecodeOptions;
  readonly #mostInflated: number;
  readonly #reader: RecordReader;
  readonly #aborted: AbortedTransactions;
  /** Where the next batch begins in the bytes, and the least offset that it can have. */
  #position = 0;
  #leastOffset = 0;
  #inflated = 0;
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

  /** Reads up to a batch that has to be inflated first; undefined when through. */
  advance(): CompressedBatch | undefined {
    while (!this.#isOver && !this.#reader.isFull) {
      const batch = this.#next();
      if (batch === undefined) return undefined;
      if (batch.compression === undefined) {
        this.#stop(unknownCompression(batch), batch);
        return undefined;
      }
      if (isCompressed(batch)) {
        // Enough memory for one call; the next call begins with this batch.
        if (this.#inflated >= this.#mostInflated) return undefined;
        return batch;
      }
      this.#read(batch, this.#bytes, batch.start + AT.records, batch.end);
    }
    return undefined;
  }

  /** Reads a batch that {@link advance} returned. */
  async inflate(batch: CompressedBatch): Promise<void> {
    try {
      const records = this.#bytes.subarray(batch.start + AT.records, batch.end);
      const inflated = await inflate(batch.compression, records, this.#mostInflated);
      this.#inflated += inflated.length;
      this.#read(batch, inflated, 0, inflated.length);
    } catch (error) {
      this.#stop(error, batch);
    }
  }

  /** The next batch that holds something for the reader; undefined if there is none. */
  #next(): BatchHeader | undefined {
    while (!this.#isOver) {
      const batch = this.#nextHeader();
      if (batch === undefined) return undefined;
      this.#position = batch.end;
      this.#leastOffset = batch.lastOffset + 1;
      if (!this.#aborted.isEmpty) this.#aborted.reach(batch.lastOffset);
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

  #read(batch: BatchHeader, bytes: Buffer, start: number, end: number): void {
    try {
      if (batch.isControl) {
        this.#aborted.end(producerOf(this.#bytes, batch), firstKey(bytes, start, end));
        this.#reader.pass(batch.lastOffset);
      } else {
        this.#reader.read(batch, bytes, start, end);
      }
    } catch (error) {
      this.#stop(error, batch);
    }
  }

  /** Ends the reading. A batch is given if its checksum was right, so that its last offset is to be trusted. */
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

/** What is left of a batch of which so many records could be read. */
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

/** Brokers answer with the first batch whole, however few bytes were asked for. */
function cutOff(bytes: number): MessagingError {
  return new MessagingError("invalid", `only ${bytes} bytes of it came; fetch it again`);
}

import type { Timer } from "../../../core/clock.ts";
import { Fifo } from "../../../core/fifo.ts";
import type { ProducerIdentity, TopicPartition } from "../port.ts";
import type { Compression } from "../records/contract.ts";
import { encodeRecordBatch } from "../records/encode.ts";
import type { PendingRecord } from "./pending-record.ts";

/** Sequence numbers begin anew behind the greatest of 31 bits. */
const SEQUENCES = 2 ** 31;
/** Batches do not get smaller than this for a topic that takes no large ones. */
const LEAST_BATCH_BYTES = 16 * 1024;

/** Records on their way together. */
interface Batch {
  readonly records: readonly PendingRecord[];
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  encoded: Buffer | Promise<Buffer> | undefined;
  attempts: number;
  /** Whether it may be stored. */
  isDoubtful: boolean;
  /** Whether it goes compressed, whatever the producer's setting: as it is it was too large. */
  isSqueezed: boolean;
}

/** Records to go together, apart from all others. */
interface Piece {
  readonly records: readonly PendingRecord[];
  readonly isDoubtful: boolean;
}

/**
 * What is on its way to one partition: at most one batch at a time, the rest behind it. Sequence numbers are given to
 * another batch only if it is certain that nothing was stored under them, because the broker would take it for the first
 * one again and drop it.
 */
export class Lane implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  /** Whether a request with its batch is under way. */
  isInFlight = false;
  /** Runs until it may be tried again. */
  pause: Timer | undefined;
  /** How often it has rested over the same batch. */
  rests = 0;
  /** Whether the pause may end as soon as it is known where to go. */
  isLost = false;
  /** The node that was last asked. */
  node: number | undefined;
  /** Why it is not stored yet. */
  cause: unknown;
  readonly #queue = new Fifo<PendingRecord>();
  /** Parts of a batch that was refused, to go before the queue. */
  #pieces: Piece[] = [];
  #batch: Batch | undefined;
  #mostBytes: number;
  #identity: ProducerIdentity | undefined;
  #isIdentityInDoubt = true;
  #sequence = 0;

  constructor(topic: string, partition: number, mostBytes: number) {
    this.topic = topic;
    this.partition = partition;
    this.#mostBytes = mostBytes;
  }

  push(record: PendingRecord): void {
    this.#queue.push(record);
  }

  /** Whether a record would go at once. */
  get isIdle(): boolean {
    return this.#batch === undefined && this.#queue.size === 0 && this.#pieces.length === 0;
  }

  get size(): number {
    return this.#batch?.size ?? 0;
  }

  /** How often the batch was tried. */
  get attempts(): number {
    return this.#batch?.attempts ?? 0;
  }

  get isDoubtful(): boolean {
    return this.#batch?.isDoubtful === true;
  }

  /** Until when the batch, or the record that is to be the first of it, is tried. */
  get deadline(): number {
    return (
      (this.#batch?.records[0] ?? this.#pieces[0]?.records[0] ?? this.#queue.peek())?.deadline ??
      Number.POSITIVE_INFINITY
    );
  }

  /** The identity it had last; `needsIdentity` tells whether it goes on with it. */
  get identity(): ProducerIdentity | undefined {
    return this.#identity;
  }

  get needsIdentity(): boolean {
    return this.#isIdentityInDoubt;
  }

  /** Goes on under an identity that it never had before. */
  identify(identity: ProducerIdentity): void {
    this.#identity = identity;
    this.#isIdentityInDoubt = false;
    this.#sequence = 0;
    if (this.#batch !== undefined) this.#batch.encoded = undefined;
  }

  /** The bytes of the batch to send now: the same as before, unless the identity is another. */
  encode(timestamp: number, compression: Compression): Buffer | Promise<Buffer> {
    this.#batch ??= this.#take(timestamp);
    const { records, encoded, timestamp: since, isSqueezed } = this.#batch;
    if (encoded !== undefined) return encoded;
    const { producerId, epoch } = this.#identity as ProducerIdentity;
    const bytes = encodeRecordBatch(
      records.map(({ record }) => record),
      {
        producerId,
        epoch,
        firstSequence: this.#sequence,
        timestamp: since,
        compression: isSqueezed ? "gzip" : compression,
      },
    );
    this.#batch.encoded = bytes;
    return bytes;
  }

  #take(timestamp: number): Batch {
    const { records, isDoubtful } = this.#pieces.shift() ?? { records: this.#takeFromQueue(), isDoubtful: false };
    const size = records.reduce((sum, record) => sum + record.size, 0);
    return { records, size, timestamp, encoded: undefined, attempts: 0, isDoubtful, isSqueezed: false };
  }

  #takeFromQueue(): PendingRecord[] {
    const records: PendingRecord[] = [];
    let size = 0;
    for (let next = this.#queue.peek(); next !== undefined; next = this.#queue.peek()) {
      size += next.size;
      if (records.length > 0 && size > this.#mostBytes) break;
      records.push(next);
      this.#queue.shift();
    }
    return records;
  }

  /** Counts a try that was not the last. */
  tried(cause: unknown, isDoubtful: boolean): void {
    this.cause = cause;
    if (this.#batch === undefined) return;
    this.#batch.attempts++;
    this.#batch.isDoubtful ||= isDoubtful;
  }

  /** The broker does not go on with this identity. */
  forgetIdentity(): void {
    this.#isIdentityInDoubt = true;
  }

  /** The batch is in the log; returns its records. */
  stored(): readonly PendingRecord[] {
    const records = this.#batch?.records ?? [];
    this.#sequence = sequenceAfter(this.#sequence, records.length);
    this.#forgetBatch();
    return records;
  }

  /** Cuts the batch in two, each to go alone; false if it is a single record. Later batches are smaller if it was too large. */
  divide(isTooLarge: boolean): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.records.length < 2) return false;
    const { records, isDoubtful } = batch;
    const middle = Math.ceil(records.length / 2);
    this.#pieces.unshift(
      { records: records.slice(0, middle), isDoubtful },
      { records: records.slice(middle), isDoubtful },
    );
    if (isTooLarge) this.#mostBytes = Math.max(LEAST_BATCH_BYTES, Math.min(this.#mostBytes, batch.size / 2));
    this.drop();
    return true;
  }

  /** Has the batch, which was too large as it is, go once more, compressed; false if it was compressed already. */
  squeeze(compression: Compression): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.isSqueezed || compression !== "none") return false;
    batch.isSqueezed = true;
    // Other bytes under the same sequence number: what was too large is stored nowhere.
    batch.encoded = undefined;
    return true;
  }

  /** Gives the batch up; returns its records. */
  drop(): readonly PendingRecord[] {
    const batch = this.#batch;
    if (batch?.isDoubtful) this.forgetIdentity();
    this.#forgetBatch();
    return batch?.records ?? [];
  }

  #forgetBatch(): void {
    this.#batch = undefined;
    this.cause = undefined;
    this.rests = 0;
  }

  /** Gives up everything behind the batch as well. */
  dropQueue(): readonly PendingRecord[] {
    const records = [...this.#pieces.flatMap((piece) => piece.records), ...this.#queue];
    this.#pieces = [];
    this.#queue.clear();
    return records;
  }
}

/** The sequence number behind so many records. */
export function sequenceAfter(sequence: number, records: number): number {
  return (sequence + records) % SEQUENCES;
}

import type { Random, Timer } from "../../../core/clock.ts";
import { Fifo } from "../../../core/fifo.ts";
import type {
  ErrorName,
  PartitionBatch,
  ProduceOutcome,
  ProducerIdentity,
  TopicId,
  TopicMetadata,
  TopicPartition,
} from "../port.ts";
import { encodeRecordBatch } from "../records/encode.ts";
import type { PendingRecord, ProducerSettings } from "./producer.ts";

/** The partition of a key, as Kafka's Java client and kafkajs choose it. */
export function partitionOfKey(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

/** Chooses partitions for runs of records without a key: in turn over the partitions that can send soonest. */
export class PartitionChooser {
  readonly #random: Random;
  #turn: number | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The partition for the next run: the one with the highest `fitness`, at best 2; among equals, the next in turn. */
  next(partitions: number, fitness: (partition: number) => number): number {
    // A random start, so that single messages of many processes do not all use one partition.
    this.#turn ??= Math.floor(this.#random.fraction() * partitions);
    let best = this.#turn % partitions;
    let bestFitness = Number.NEGATIVE_INFINITY;
    for (let step = 0; step < partitions && bestFitness < BEST; step++) {
      const partition = (this.#turn + step) % partitions;
      const fit = fitness(partition);
      if (fit <= bestFitness) continue;
      best = partition;
      bestFitness = fit;
    }
    this.#turn = (best + 1) % partitions;
    return best;
  }
}

const BEST = 2;

const SEED = 0x9747b28c;
const MULTIPLIER = 0x5bd1e995;
const SHIFT = 24;

/** The hash of Kafka's own clients for keys: murmur2, 32 bits, signed. */
export function murmur2(key: Uint8Array): number {
  const whole = key.length & ~3;
  let hash = SEED ^ key.length;
  for (let at = 0; at < whole; at += 4) {
    let word = byte(key, at) | (byte(key, at + 1) << 8) | (byte(key, at + 2) << 16) | (byte(key, at + 3) << 24);
    word = Math.imul(word, MULTIPLIER);
    word ^= word >>> SHIFT;
    hash = Math.imul(hash, MULTIPLIER) ^ Math.imul(word, MULTIPLIER);
  }
  const rest = key.length - whole;
  if (rest > 0) {
    if (rest > 2) hash ^= byte(key, whole + 2) << 16;
    if (rest > 1) hash ^= byte(key, whole + 1) << 8;
    hash = Math.imul(hash ^ byte(key, whole), MULTIPLIER);
  }
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER);
  return hash ^ (hash >>> 15);
}

function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}

/** Sequence numbers have 31 bits, then start over. */
const SEQUENCES = 2 ** 31;
/** Batches do not get smaller than this for a topic with a low limit. */
const MIN_BATCH_BYTES = 16 * 1024;

type CompressionSettings = Pick<ProducerSettings, "compression" | "maxInflatedBytes">;

/** Records that are sent together. */
interface Batch {
  readonly records: readonly PendingRecord[];
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  encoded: Buffer | Promise<Buffer> | undefined;
  attempts: number;
  /** Whether an earlier attempt may have stored it. */
  isDoubtful: boolean;
  /** Whether it is compressed even if the producer does not compress: uncompressed it was too large. */
  isForceCompressed: boolean;
}

/** A part of a refused batch, sent alone. */
interface SubBatch {
  readonly records: readonly PendingRecord[];
  readonly isDoubtful: boolean;
}

/**
 * The queue of one partition: at most one batch in flight, the rest behind it. A sequence number is reused only if
 * certainly nothing was stored under it; otherwise the broker would drop the new batch as a duplicate.
 */
export class PartitionAccumulator implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  /** Whether a request with the batch is under way. */
  isInFlight = false;
  /** Runs until the next attempt. */
  pause: Timer | undefined;
  /** How often the same batch had to wait. */
  backoffs = 0;
  /** Whether the pause ends early once the leader is known. */
  isLost = false;
  /** The node of the last attempt. */
  node: number | undefined;
  /** Why the batch is not stored yet. */
  cause: unknown;
  readonly #queue = new Fifo<PendingRecord>();
  /** Parts of a refused batch, sent before the queue. */
  #subBatches: SubBatch[] = [];
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

  /** Whether a new record would be sent at once. */
  get isIdle(): boolean {
    return this.#batch === undefined && this.#queue.size === 0 && this.#subBatches.length === 0;
  }

  get size(): number {
    return this.#batch?.size ?? 0;
  }

  /** How often the batch was sent. */
  get attempts(): number {
    return this.#batch?.attempts ?? 0;
  }

  get isDoubtful(): boolean {
    return this.#batch?.isDoubtful === true;
  }

  /** The deadline of the batch, or of the record that starts the next one. */
  get deadline(): number {
    return (
      (this.#batch?.records[0] ?? this.#subBatches[0]?.records[0] ?? this.#queue.peek())?.deadline ??
      Number.POSITIVE_INFINITY
    );
  }

  /** The last producer identity; see `needsIdentity`. */
  get identity(): ProducerIdentity | undefined {
    return this.#identity;
  }

  get needsIdentity(): boolean {
    return this.#isIdentityInDoubt;
  }

  /** Continues with an identity that this partition never used. */
  identify(identity: ProducerIdentity): void {
    this.#identity = identity;
    this.#isIdentityInDoubt = false;
    this.#sequence = 0;
    if (this.#batch !== undefined) this.#batch.encoded = undefined;
  }

  /** The bytes of the batch. A retry has the same bytes, unless the identity changed. */
  encode(timestamp: number, { compression, maxInflatedBytes }: CompressionSettings): Buffer | Promise<Buffer> {
    this.#batch ??= this.#take(timestamp);
    const { records, encoded, timestamp: since, isForceCompressed } = this.#batch;
    if (encoded !== undefined) return encoded;
    const { producerId, epoch } = this.#identity as ProducerIdentity;
    const bytes = encodeRecordBatch(
      records.map(({ record }) => record),
      {
        producerId,
        epoch,
        firstSequence: this.#sequence,
        timestamp: since,
        compression: isForceCompressed ? "gzip" : compression,
        maxInflatedBytes,
      },
    );
    this.#batch.encoded = bytes;
    return bytes;
  }

  #take(timestamp: number): Batch {
    const { records, isDoubtful } = this.#subBatches.shift() ?? { records: this.#takeFromQueue(), isDoubtful: false };
    const size = records.reduce((sum, record) => sum + record.size, 0);
    return { records, size, timestamp, encoded: undefined, attempts: 0, isDoubtful, isForceCompressed: false };
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

  /** Counts an attempt that was not the last. */
  tried(cause: unknown, isDoubtful: boolean): void {
    this.cause = cause;
    if (this.#batch === undefined) return;
    this.#batch.attempts++;
    this.#batch.isDoubtful ||= isDoubtful;
  }

  /** The broker does not accept this identity any more. */
  forgetIdentity(): void {
    this.#isIdentityInDoubt = true;
  }

  /** The batch is stored; returns its records. */
  stored(): readonly PendingRecord[] {
    const records = this.#batch?.records ?? [];
    this.#sequence = sequenceAfter(this.#sequence, records.length);
    this.#forgetBatch();
    return records;
  }

  /**
   * Splits the batch in two that are sent alone. False if it is a single record. If it was too large, later batches are
   * smaller.
   */
  divide(isTooLarge: boolean): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.records.length < 2) return false;
    const { records, isDoubtful } = batch;
    const middle = Math.ceil(records.length / 2);
    this.#subBatches.unshift(
      { records: records.slice(0, middle), isDoubtful },
      { records: records.slice(middle), isDoubtful },
    );
    if (isTooLarge) this.#mostBytes = Math.max(MIN_BATCH_BYTES, Math.min(this.#mostBytes, batch.size / 2));
    // The same records go again: if the server stored them nevertheless, it confirms nothing else by that.
    if (isDoubtful) this.forgetIdentity();
    this.#forgetBatch();
    return true;
  }

  /** Compresses a batch that is too large otherwise. False if it was compressed already, or readers could not inflate it. */
  forceCompression({ compression, maxInflatedBytes }: CompressionSettings): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.isForceCompressed || compression !== "none") return false;
    if (batch.size > maxInflatedBytes) return false;
    batch.isForceCompressed = true;
    // New bytes under the same sequence number are safe: a batch that is too large is not stored.
    batch.encoded = undefined;
    return true;
  }

  /**
   * Drops the batch; returns its records. A server may have stored a refused batch. Under the same sequence numbers it
   * would confirm the next one as a duplicate without storing it, so the next one gets another identity.
   */
  drop(): readonly PendingRecord[] {
    const batch = this.#batch;
    const wasSent = batch !== undefined && (batch.encoded !== undefined || batch.isForceCompressed || batch.isDoubtful);
    if (wasSent) this.forgetIdentity();
    this.#forgetBatch();
    return batch?.records ?? [];
  }

  #forgetBatch(): void {
    this.#batch = undefined;
    this.cause = undefined;
    this.backoffs = 0;
  }

  /** Drops everything behind the batch; returns its records. */
  dropQueue(): readonly PendingRecord[] {
    const records = [...this.#subBatches.flatMap((piece) => piece.records), ...this.#queue];
    this.#subBatches = [];
    this.#queue.clear();
    return records;
  }
}

/** The sequence number after these records. */
export function sequenceAfter(sequence: number, records: number): number {
  return (sequence + records) % SEQUENCES;
}

/** So many records without a key go to one partition before the next is chosen. */
const RUN = 100;

/** The accumulators of a topic, and the records that wait for its metadata. */
export class TopicAccumulators {
  readonly topic: string;
  readonly accumulators = new Map<number, PartitionAccumulator>();
  /** Since when the topic is missing, in monotonic milliseconds. */
  missingSince: number | undefined;
  /** Runs while records wait for metadata. */
  timer: Timer | undefined;
  readonly #mostBytes: number;
  readonly #chooser: PartitionChooser;
  /** The id of the current topic; empty until it is known. */
  #topicId: TopicId = "";
  /** By partition; -1 for no leader. Undefined until metadata arrived. */
  #leaders: readonly number[] | undefined;
  #waiting: PendingRecord[] = [];

  constructor(topic: string, { maxBatchBytes, random }: ProducerSettings) {
    this.topic = topic;
    this.#mostBytes = maxBatchBytes;
    this.#chooser = new PartitionChooser(random);
  }

  /** Whether records wait for metadata. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Whether anything is left to send. */
  get isBusy(): boolean {
    return this.hasWaiting || [...this.accumulators.values()].some((accumulator) => !accumulator.isIdle);
  }

  takeWaiting(): readonly PendingRecord[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** Takes the waiting records whose deadline is over. */
  takeOverdue(now: number): readonly PendingRecord[] {
    const overdue = this.#waiting.filter(({ deadline }) => deadline <= now);
    if (overdue.length > 0) this.#waiting = this.#waiting.filter(({ deadline }) => deadline > now);
    return overdue;
  }

  leaderOf(partition: number): number | undefined {
    const leader = this.#leaders?.[partition];
    return leader === undefined || leader < 0 ? undefined : leader;
  }

  get topicId(): TopicId {
    return this.#topicId;
  }

  /** Applies metadata. Returns whether the topic was recreated. */
  learn({ id, partitions }: TopicMetadata): boolean {
    const isAnother = this.#topicId !== "" && id !== "" && id !== this.#topicId;
    if (id !== "") this.#topicId = id;
    const leaders: number[] = [];
    for (const { partition, leader } of partitions) leaders[partition] = leader;
    this.#leaders = Array.from(leaders, (leader) => leader ?? -1);
    return isAnother;
  }

  /** Adds records to their partitions, in order; returns the accumulators used. Records of unknown partitions wait. */
  place(records: readonly PendingRecord[]): ReadonlySet<PartitionAccumulator> {
    const accumulators = new Set<PartitionAccumulator>();
    const partitions = this.#leaders?.length ?? 0;
    let keyless = 0;
    let runPartition = 0;
    for (const pending of records) {
      const { key, partition } = pending.record;
      let place = partition ?? 0;
      if (partition === undefined && partitions > 0) {
        if (key !== undefined) place = partitionOfKey(key, partitions);
        else
          place = runPartition = keyless++ % RUN === 0 ? this.#chooser.next(partitions, this.#fitness) : runPartition;
      }
      if (place >= partitions) {
        this.#waiting.push(pending);
        continue;
      }
      const accumulator = this.#accumulator(place);
      accumulator.push(pending);
      accumulators.add(accumulator);
    }
    return accumulators;
  }

  #accumulator(partition: number): PartitionAccumulator {
    const known = this.accumulators.get(partition);
    if (known !== undefined) return known;
    const accumulator = new PartitionAccumulator(this.topic, partition, this.#mostBytes);
    this.accumulators.set(partition, accumulator);
    return accumulator;
  }

  readonly #fitness = (partition: number): number => {
    if (this.leaderOf(partition) === undefined) return 0;
    const accumulator = this.accumulators.get(partition);
    if (accumulator === undefined || accumulator.isIdle) return 2;
    return accumulator.attempts > 0 ? 0 : 1;
  };
}

/** The most bytes of a request, unless one batch is larger. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/** A batch to send, with its accumulator. */
export interface Sending {
  readonly accumulator: PartitionAccumulator;
  readonly batch: PartitionBatch;
}

export function sendingOf(accumulator: PartitionAccumulator, topicId: TopicId, batch: Uint8Array): Sending {
  return { accumulator, batch: { topic: accumulator.topic, topicId, partition: accumulator.partition, batch } };
}

/** Splits the batches for one node into few requests. */
export function splitIntoRequests(sendings: readonly Sending[]): readonly (readonly Sending[])[] {
  const requests: Sending[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const sending of sendings) {
    const { length } = sending.batch.batch;
    if (size + length > MAX_REQUEST_BYTES) {
      requests.push([]);
      size = 0;
    }
    requests.at(-1)?.push(sending);
    size += length;
  }
  return requests;
}

/** The answer for an accumulator's batch; an error if the server did not answer for it. */
export function outcomeFor({ topic, partition }: PartitionAccumulator, outcomes: readonly ProduceOutcome[]): ErrorName {
  const outcome = outcomes.find((one) => one.partition === partition && one.topic === topic);
  return outcome === undefined ? "NO_ANSWER" : outcome.error;
}

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
import type { Compression } from "../records/contract.ts";
import { encodeRecordBatch } from "../records/encode.ts";
import type { PendingRecord, ProducerSettings } from "./producer.ts";

/** The partition of a key, the same as Kafka's Java client and kafkajs choose. */
export function partitionOfKey(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

/** Deals out records without a key: run after run, in turn over the partitions that can take one best. */
export class PartitionChooser {
  readonly #random: Random;
  #turn: number | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  /**
   * The partition for the next run. `fitness` tells how well one can take it, at best 2; of the fittest, the one whose
   * turn is next.
   */
  next(partitions: number, fitness: (partition: number) => number): number {
    // Not the same for every process, or lone messages of many would meet in one partition.
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

/** The hash by which Kafka's own clients choose the partition of a key: murmur2, of 32 bits with a sign. */
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

/** Sequence numbers begin anew behind the greatest of 31 bits. */
const SEQUENCES = 2 ** 31;
/** Batches do not get smaller than this for a topic that takes no large ones. */
const MIN_BATCH_BYTES = 16 * 1024;

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
  isForceCompressed: boolean;
}

/** Records to go together, apart from all others. */
interface SubBatch {
  readonly records: readonly PendingRecord[];
  readonly isDoubtful: boolean;
}

/**
 * What is on its way to one partition: at most one batch at a time, the rest behind it. Sequence numbers are given to
 * another batch only if it is certain that nothing was stored under them, because the broker would take it for the first
 * one again and drop it.
 */
export class PartitionAccumulator implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  /** Whether a request with its batch is under way. */
  isInFlight = false;
  /** Runs until it may be tried again. */
  pause: Timer | undefined;
  /** How often it has rested over the same batch. */
  backoffs = 0;
  /** Whether the pause may end as soon as it is known where to go. */
  isLost = false;
  /** The node that was last asked. */
  node: number | undefined;
  /** Why it is not stored yet. */
  cause: unknown;
  readonly #queue = new Fifo<PendingRecord>();
  /** Parts of a batch that was refused, to go before the queue. */
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

  /** Whether a record would go at once. */
  get isIdle(): boolean {
    return this.#batch === undefined && this.#queue.size === 0 && this.#subBatches.length === 0;
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
      (this.#batch?.records[0] ?? this.#subBatches[0]?.records[0] ?? this.#queue.peek())?.deadline ??
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
    this.#subBatches.unshift(
      { records: records.slice(0, middle), isDoubtful },
      { records: records.slice(middle), isDoubtful },
    );
    if (isTooLarge) this.#mostBytes = Math.max(MIN_BATCH_BYTES, Math.min(this.#mostBytes, batch.size / 2));
    this.drop();
    return true;
  }

  /** Has the batch, which was too large as it is, go once more, compressed; false if it was compressed already. */
  forceCompression(compression: Compression): boolean {
    const batch = this.#batch;
    if (batch === undefined || batch.isForceCompressed || compression !== "none") return false;
    batch.isForceCompressed = true;
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
    this.backoffs = 0;
  }

  /** Gives up everything behind the batch as well. */
  dropQueue(): readonly PendingRecord[] {
    const records = [...this.#subBatches.flatMap((piece) => piece.records), ...this.#queue];
    this.#subBatches = [];
    this.#queue.clear();
    return records;
  }
}

/** The sequence number behind so many records. */
export function sequenceAfter(sequence: number, records: number): number {
  return (sequence + records) % SEQUENCES;
}

/** So many records without a key go to one partition together; more of one call are spread. */
const RUN = 100;

/** The partitions of a topic, and what waits until they are known. */
export class TopicAccumulators {
  readonly topic: string;
  readonly accumulators = new Map<number, PartitionAccumulator>();
  /** Since when the cluster says that there is no such topic, in monotonic milliseconds. */
  missingSince: number | undefined;
  /** Runs while something waits. */
  timer: Timer | undefined;
  readonly #mostBytes: number;
  readonly #chooser: PartitionChooser;
  /** Which topic it is that has the name; empty until it is known. */
  #topicId: TopicId = "";
  /** By partition; -1 where there is no leader. Undefined until it is known. */
  #leaders: readonly number[] | undefined;
  #waiting: PendingRecord[] = [];

  constructor(topic: string, { maxBatchBytes, random }: ProducerSettings) {
    this.topic = topic;
    this.#mostBytes = maxBatchBytes;
    this.#chooser = new PartitionChooser(random);
  }

  /** Whether there are records whose partition is not known. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Whether anything is to be sent. */
  get isBusy(): boolean {
    return this.hasWaiting || [...this.accumulators.values()].some((accumulator) => !accumulator.isIdle);
  }

  takeWaiting(): readonly PendingRecord[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** Takes the waiting records whose time is over. */
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

  /** Returns whether it is another topic than before. */
  learn({ id, partitions }: TopicMetadata): boolean {
    const isAnother = this.#topicId !== "" && id !== "" && id !== this.#topicId;
    if (id !== "") this.#topicId = id;
    const leaders: number[] = [];
    for (const { partition, leader } of partitions) leaders[partition] = leader;
    this.#leaders = Array.from(leaders, (leader) => leader ?? -1);
    return isAnother;
  }

  /** Gives records to their partitions, in order; returns the accumulators that got some. The rest waits. */
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

/** The most bytes of one request, as far as whole batches allow. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/** An accumulator and the batch of it that goes out. */
export interface Sending {
  readonly accumulator: PartitionAccumulator;
  readonly batch: PartitionBatch;
}

export function sendingOf(accumulator: PartitionAccumulator, topicId: TopicId, batch: Uint8Array): Sending {
  return { accumulator, batch: { topic: accumulator.topic, topicId, partition: accumulator.partition, batch } };
}

/** What goes to one node, in as few requests as may be. */
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

/** What was said of an accumulator's batch; an error, if nothing was. */
export function outcomeFor({ topic, partition }: PartitionAccumulator, outcomes: readonly ProduceOutcome[]): ErrorName {
  const outcome = outcomes.find((one) => one.partition === partition && one.topic === topic);
  return outcome === undefined ? "NO_ANSWER" : outcome.error;
}

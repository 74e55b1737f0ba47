import type { DeliveryToken, Receiver, SettleResult } from "../../../core/adapter.ts";
import type { Clock } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { partitionKey, type TopicIdentity } from "../names.ts";
import type { CommittedOffset, TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { type DeliveredRecord, PartitionLedger } from "./partition-ledger.ts";
import { beginning, type Commit, decodeProgress, type Progress } from "./progress.ts";

/** Collects the results of one `settle` call; resolves when every settlement has one. */
export class SettleResults {
  readonly results: Promise<readonly SettleResult[]>;
  readonly #results: SettleResult[];
  #left: number;
  #resolve: (results: readonly SettleResult[]) => void = () => {};

  constructor(size: number) {
    this.#results = new Array<SettleResult>(size).fill("fenced");
    this.#left = size;
    this.results = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (size === 0) this.#resolve([]);
  }

  set(index: number, result: SettleResult): void {
    this.#results[index] = result;
    if (--this.#left === 0) this.#resolve(this.#results);
  }
}

/** Finished records of a partition that wait for a confirmed commit. */
class PendingSettlements {
  // Two arrays instead of an object each: there is one entry per record.
  #answers: SettleResults[] = [];
  #indexes: number[] = [];
  /** How many of them the commit under way covers. */
  #sent = 0;

  get size(): number {
    return this.#answers.length;
  }

  add(answer: SettleResults, index: number): void {
    this.#answers.push(answer);
    this.#indexes.push(index);
  }

  /** A commit with all of them was sent. */
  send(): void {
    this.#sent = this.#answers.length;
  }

  /** The commit is confirmed. */
  confirm(): void {
    this.#answer(this.#sent, "settled");
    this.#sent = 0;
  }

  /** The commit failed, or its outcome is unknown. */
  fail(): void {
    this.#sent = 0;
  }

  /** The partition is revoked or lost. */
  fence(): void {
    this.#answer(this.#answers.length, "fenced");
    this.#sent = 0;
  }

  #answer(count: number, result: SettleResult): void {
    if (count === 0) return;
    const answers = this.#answers;
    const indexes = this.#indexes;
    this.#answers = answers.slice(count);
    this.#indexes = indexes.slice(count);
    for (let at = 0; at < count; at++) answers[at]?.set(indexes[at] as number, result);
  }
}

/** How far ahead an idle consumer commits the watermark. */
const MIN_AHEAD = 16;

/**
 * The delivered high watermark: records below it may be delivered, and it is committed first. After a crash, every
 * unfinished record below it counts as delivered. It is just far enough ahead that delivery rarely waits for a commit.
 */
class DeliveredWatermark {
  /** The lowest and highest committed value. They differ during a commit, and after one without an answer. */
  #low = Number.NEGATIVE_INFINITY;
  #high: number;
  #ahead = MIN_AHEAD;
  #onDelivered = 0;
  #isRequested = false;

  /** Starts with the watermark that another consumer committed. Nothing may be delivered before our first commit. */
  constructor(committed: number) {
    this.#high = committed;
  }

  /** Whether a record may be delivered now. */
  allows(offset: number): boolean {
    return offset < this.#low;
  }

  /** Whether a crash now would certainly not blame a record at or above an offset. */
  endsBy(offset: number): boolean {
    return this.#high <= offset;
  }

  /** Whether {@link request} was called since the last commit. */
  get isRequested(): boolean {
    return this.#isRequested;
  }

  onDelivered(): void {
    this.#onDelivered++;
  }

  /** A record waits for a higher watermark. */
  request(): void {
    this.#isRequested = true;
  }

  /** How far the next commit goes ahead, for this prefetch. Adapts to the deliveries since the last commit. */
  ahead(prefetch: number): number {
    const since = this.#onDelivered * 2;
    this.#ahead = Math.max(since, this.#isRequested ? this.#ahead * 4 : this.#ahead >> 1, MIN_AHEAD);
    this.#ahead = Math.min(this.#ahead, Math.max(prefetch, 1));
    this.#onDelivered = 0;
    return this.#ahead;
  }

  /** Whether a crash would blame many records although nothing was delivered for a while. */
  isIdle(deliveredTo: number): boolean {
    return this.#onDelivered === 0 && this.#high > deliveredTo + MIN_AHEAD;
  }

  /** Goes ahead as little as possible from the next commit on. */
  reset(): void {
    this.#ahead = MIN_AHEAD;
  }

  asked(watermark: number): void {
    this.#low = Math.min(this.#low, watermark);
    this.#high = Math.max(this.#high, watermark);
    this.#isRequested = false;
  }

  confirmed(watermark: number): void {
    this.#low = watermark;
    this.#high = watermark;
  }
}

/** What a consumer reads and how. */
export interface ConsumerOptions {
  readonly group: string;
  /** Every topic of the group; all members must use the same. */
  readonly topics: readonly string[];
  /** The most unsettled records at first, of the consumer or of each partition. */
  readonly prefetch: number;
  readonly prefetchPer: "consumer" | "partition";
  /** Whether a record is delivered. Others count as finished. */
  readonly wanted?: (record: LogRecord, topic: string) => boolean;
  /**
   * Whether unreadable records (see {@link LogRecord.unreadable}) are delivered as one record. Otherwise the partition
   * stops there and reports `stalled`. Default false.
   */
  readonly deliversUnreadable?: boolean;
  /** Which records dead letters refer to; undefined if there are no such dead letters. */
  readonly references?: References;
}

/** Receives what a consumer reads. No method throws. */
export interface RecordSink {
  deliver(records: readonly DeliveredRecord[]): void;
  /** The broker wants these back. Requeue those not begun; settle the others when they end. */
  revoke(records: readonly DeliveredRecord[]): void;
  /** These belong to another consumer now. */
  lost(records: readonly DeliveredRecord[], cause: MessagingError): void;
  stalled(cause: MessagingError): void;
  /** The stall is over. Not called if a delivery shows that. */
  flowing?(): void;
  /** Reports a condition that people should know, such as a missing topic. */
  notice(error: MessagingError): void;
}

/** Reads partitions as a member of a group. A delivered record is its own token in `settle` and `extend`. */
export interface RecordConsumer extends Receiver {
  /**
   * Keeps a record in the log after it is finished, because a dead letter is about to refer to it. Call the result when
   * writing the dead letter ended. Undefined if the record is no longer ours.
   */
  keep(token: DeliveryToken): (() => void) | undefined;
}

/**
 * Finds the lowest offset that dead letters refer to, by {@link partitionKey}. Reads all dead letters; rejects if it
 * cannot.
 */
type References = () => Promise<ReadonlyMap<string, number>>;

interface ReviewParts {
  readonly clock: Clock;
  readonly partitions: AssignedPartitions;
  readonly references: References;
  readonly everyMs: number;
  /** Fewer records need to stay: worth a commit. */
  changed(): void;
}

/**
 * Checks from time to time which records must stay because dead letters refer to them. Reads nothing while there are
 * none.
 */
export class ReferenceReviews {
  readonly #dependencies: ReviewParts;
  #lastAt: number;
  #isUnderWay = false;

  constructor(dependencies: ReviewParts) {
    this.#dependencies = dependencies;
    this.#lastAt = dependencies.clock.monotonic();
  }

  /** Starts a review if one is due and any record is kept. */
  check(): void {
    const { clock, partitions, everyMs } = this.#dependencies;
    if (this.#isUnderWay || clock.monotonic() - this.#lastAt < everyMs) return;
    const keeping = partitions.all.filter(({ ledger }) => ledger.kept.lowest !== undefined);
    if (keeping.length === 0) return;
    this.#isUnderWay = true;
    for (const { ledger } of keeping) ledger.kept.beginReview();
    this.#dependencies.references().then(
      (references) => this.#end(keeping, references),
      () => {
        for (const { ledger } of keeping) ledger.kept.failReview();
        this.#over();
      },
    );
  }

  #end(keeping: readonly AssignedPartition[], references: ReadonlyMap<string, number>): void {
    let hasChanged = false;
    for (const partition of keeping) {
      if (!partition.ledger.kept.endReview(references.get(partitionKey(partition)))) continue;
      partition.urgent = true;
      hasChanged = true;
    }
    this.#over();
    if (hasChanged) this.#dependencies.changed();
  }

  #over(): void {
    this.#isUnderWay = false;
    this.#lastAt = this.#dependencies.clock.monotonic();
  }
}

/** `partition 3 of topic "orders"`. */
export function describePartition({ topic, partition }: TopicPartition): string {
  return `partition ${partition} of topic "${topic}"`;
}

/**
 * A partition from its assignment until it is revoked or lost. If it is assigned again, or its topic is recreated, a
 * new object is created.
 */
export class AssignedPartition implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly ledger: PartitionLedger;
  readonly watermark: DeliveredWatermark;
  readonly settlements = new PendingSettlements();
  #identity: TopicIdentity | undefined;
  /** Nothing more is delivered: it is being revoked, or the consumer closes. */
  closing = false;
  /** It is revoked or lost. */
  gone = false;
  /** Delivery and commits are suspended because the topic may have been recreated. */
  suspended = false;
  /** The offset of the record to deliver alone, once the committed watermark covers exactly it. */
  single: number | undefined;
  /** A commit is needed. */
  urgent = false;
  /** The last known commit; undefined for none. */
  lastCommit: Commit | undefined;
  /** Whether this consumer made it. */
  isLastCommitOurs = false;
  /** Whether that commit leaves nothing in flight or in doubt. */
  clean = false;
  commitFailures = 0;
  /** No commit before this time, after a failed one. */
  commitNotBefore = Number.NEGATIVE_INFINITY;

  /** Starts at the given progress; without a commit, the fetcher finds the first offset. */
  constructor(at: TopicPartition, lastCommit: Commit | undefined, progress: Progress, identity?: TopicIdentity) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.lastCommit = lastCommit;
    this.ledger = new PartitionLedger(at, progress);
    this.identity = identity;
    this.watermark = new DeliveredWatermark(progress.watermark);
  }

  /** Starts at a group's commit, or at the beginning if there is none. */
  static from(found: CommittedOffset): AssignedPartition {
    const { offset, metadata } = found;
    if (offset < 0) return new AssignedPartition(found, undefined, beginning(0));
    return new AssignedPartition(found, { offset, metadata }, decodeProgress({ offset, metadata }).progress);
  }

  /** The topic of its offsets; undefined until the cluster was asked. */
  get identity(): TopicIdentity | undefined {
    return this.#identity;
  }

  set identity(identity: TopicIdentity | undefined) {
    this.#identity = identity;
    this.ledger.topicId = identity?.id ?? "";
  }

  /** Whether finished records are not yet known to be committed. */
  get behind(): boolean {
    return !this.isLastCommitOurs || this.lastCommit?.offset !== this.ledger.prefix;
  }

  /** Whether its records may be delivered. */
  get isDispatchable(): boolean {
    return !this.closing && !this.gone && !this.suspended && this.ledger.begun;
  }

  /** What counts against the prefetch: delivered, and neither requeued nor confirmed as finished. */
  get unsettled(): number {
    return this.ledger.inFlight + this.ledger.unconfirmed;
  }

  /** Whether no delivered record is in doubt, even if the last commit got lost. */
  get exact(): boolean {
    return this.unsettled === 0 && this.watermark.endsBy(this.ledger.prefix);
  }
}

/** The assigned partitions whose progress is known. */
export class AssignedPartitions {
  readonly #byKey = new Map<string, AssignedPartition>();
  readonly #byLedger = new Map<PartitionLedger, AssignedPartition>();
  #all: readonly AssignedPartition[] = [];

  /** In any order. A caller's copy does not change. */
  get all(): readonly AssignedPartition[] {
    return this.#all;
  }

  get(at: TopicPartition): AssignedPartition | undefined {
    return this.#byKey.get(partitionKey(at));
  }

  /** The partition of a ledger while it is assigned. */
  of(ledger: PartitionLedger): AssignedPartition | undefined {
    return this.#byLedger.get(ledger);
  }

  add(partition: AssignedPartition): void {
    this.#byKey.set(partitionKey(partition), partition);
    this.#byLedger.set(partition.ledger, partition);
    this.#all = [...this.#byKey.values()];
  }

  remove(partition: AssignedPartition): void {
    if (this.#byKey.get(partitionKey(partition)) !== partition) return;
    this.#byKey.delete(partitionKey(partition));
    this.#byLedger.delete(partition.ledger);
    this.#all = [...this.#byKey.values()];
  }
}

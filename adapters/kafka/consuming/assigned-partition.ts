import type { DeliveryToken, Receiver, SettleResult } from "../../../core/adapter.ts";
import type { Clock } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { CommittedOffset, TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import type { TopicIdentity } from "../topic-identity.ts";
import { type DeliveredRecord, PartitionLedger } from "./partition-ledger.ts";
import { beginning, type Commit, decodeProgress, type Progress } from "./progress.ts";

/** The answer to one `settle`: given when each of its settlements has a result. */
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

/** What was finished in a partition and waits for the commit that holds it. */
class PendingSettlements {
  // Two arrays instead of an object each: there is one entry per record.
  #answers: SettleResults[] = [];
  #indexes: number[] = [];
  /** Of the commit under way. */
  #sent = 0;

  get size(): number {
    return this.#answers.length;
  }

  add(answer: SettleResults, index: number): void {
    this.#answers.push(answer);
    this.#indexes.push(index);
  }

  /** A commit with all of them is under way. */
  send(): void {
    this.#sent = this.#answers.length;
  }

  /** That commit is confirmed. */
  confirm(): void {
    this.#answer(this.#sent, "settled");
    this.#sent = 0;
  }

  /** That commit may not have come through. */
  fail(): void {
    this.#sent = 0;
  }

  /** The partition is not ours. */
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

/** How many records an idle consumer hands out without asking first. */
const MIN_AHEAD = 16;

/**
 * How far records may be handed out, which is what stands committed: if we die, everything unfinished before it counts as
 * having been in our hands. Kept so far ahead that handing out rarely waits, and no further.
 */
class DeliveredWatermark {
  /** What is committed at the least, and at the most: while a commit is under way, or after one without an answer, either. */
  #low = Number.NEGATIVE_INFINITY;
  #high: number;
  #ahead = MIN_AHEAD;
  #onDelivered = 0;
  #isRequested = false;

  /** With what another one committed: until we have committed ourselves nothing may be handed out. */
  constructor(committed: number) {
    this.#high = committed;
  }

  /** Whether a record may be handed out now. */
  allows(offset: number): boolean {
    return offset < this.#low;
  }

  /** Whether certainly nothing at or above an offset would be blamed for our crash. */
  endsBy(offset: number): boolean {
    return this.#high <= offset;
  }

  /** Whether {@link request} was called since a commit was last asked for. */
  get isRequested(): boolean {
    return this.#isRequested;
  }

  onDelivered(): void {
    this.#onDelivered++;
  }

  /** Something could be handed out, were it not for the watermark. */
  request(): void {
    this.#isRequested = true;
  }

  /** How far to go ahead in the next commit, for so large a prefetch. Learns from what was handed out since the last. */
  ahead(prefetch: number): number {
    const since = this.#onDelivered * 2;
    this.#ahead = Math.max(since, this.#isRequested ? this.#ahead * 4 : this.#ahead >> 1, MIN_AHEAD);
    this.#ahead = Math.min(this.#ahead, Math.max(prefetch, 1));
    this.#onDelivered = 0;
    return this.#ahead;
  }

  /** Whether far more than a moment's worth would be blamed, with nothing handed out for a while. */
  isIdle(deliveredTo: number): boolean {
    return this.#onDelivered === 0 && this.#high > deliveredTo + MIN_AHEAD;
  }

  /** Goes ahead as little as can be, from the next commit on. */
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

/** What a consumer reads, and how. */
export interface ConsumerOptions {
  readonly group: string;
  /** Every topic that the group reads; all members must say the same. */
  readonly topics: readonly string[];
  /** The most unsettled records at first: of the consumer in all, or of each partition. */
  readonly prefetch: number;
  readonly prefetchPer: "consumer" | "partition";
  /** Records of a topic that are none of ours are passed over: they count as finished without being delivered. */
  readonly wanted?: (record: LogRecord, topic: string) => boolean;
  /**
   * Whether what cannot be read (see {@link LogRecord.unreadable}) is delivered, as one record, and the partition goes on
   * behind it. Otherwise the partition stops there, which `stalled` explains. Default false.
   */
  readonly deliversUnreadable?: boolean;
  /** Which records dead letters refer to; undefined where they refer to none of these. */
  readonly references?: References;
}

/** Where a consumer puts what it reads. No call throws. */
export interface RecordSink {
  deliver(records: readonly DeliveredRecord[]): void;
  /** These are asked back: those not begun should be requeued soon, the others settled as they end. */
  revoke(records: readonly DeliveredRecord[]): void;
  /** No longer ours. */
  lost(records: readonly DeliveredRecord[], cause: MessagingError): void;
  stalled(cause: MessagingError): void;
  /** What stalled is over. Not called where a delivery says so. */
  flowing?(): void;
  /** Something that people should know: an offset out of range, a topic that is gone. */
  notice(error: MessagingError): void;
}

/** Reads partitions as a member of a group. Tokens of `settle` and `extend` are the held records. */
export interface RecordConsumer extends Receiver {
  /**
   * Keeps a held record from being deleted once it is finished, for a dead letter that is about to refer to it. The result
   * is to be called when writing that ended, in whatever way. Undefined if the record is not ours any more.
   */
  keep(token: DeliveryToken): (() => void) | undefined;
}

/** The lowest offset that dead letters refer to, by {@link partitionKey}. Reads all dead letters; rejects if it cannot. */
type References = () => Promise<ReadonlyMap<string, number>>;

/** What reviewing takes. */
interface ReviewParts {
  readonly clock: Clock;
  readonly partitions: AssignedPartitions;
  readonly references: References;
  readonly everyMs: number;
  /** Less has to stay than before: worth a commit. */
  changed(): void;
}

/**
 * Finds out now and then which records still have to stay for the dead letters that refer to them. Reads nothing while
 * there are none.
 */
export class ReferenceReviews {
  readonly #dependencies: ReviewParts;
  #lastAt: number;
  #isUnderWay = false;

  constructor(dependencies: ReviewParts) {
    this.#dependencies = dependencies;
    this.#lastAt = dependencies.clock.monotonic();
  }

  /** Begins one if it is time for it, and anything has to stay. */
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

export function partitionKey({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/** `partition 3 of topic "orders"`. */
export function describePartition({ topic, partition }: TopicPartition): string {
  return `partition ${partition} of topic "${topic}"`;
}

/**
 * A partition from where it became ours to where it is not any more; if it comes back it is another. So it is if its topic
 * is another one.
 */
export class AssignedPartition implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly ledger: PartitionLedger;
  readonly watermark: DeliveredWatermark;
  readonly settlements = new PendingSettlements();
  /** Which topic it is of: where we are in it means nothing in another. Undefined until the cluster was asked. */
  identity: TopicIdentity | undefined;
  /** Nothing more is handed out: others are to have it, or the consumer ends. */
  closing = false;
  /** It is not ours any more. */
  gone = false;
  /** Nothing is handed out or committed for now: whether its log is still the one we know is in doubt. */
  suspended = false;
  /** The record that is to be handed out by itself, once the watermark says so exactly. */
  single: number | undefined;
  /** A commit is waited for. */
  urgent = false;
  /** What stands committed, as far as we know; undefined for nothing. */
  lastCommit: Commit | undefined;
  /** Whether that is ours. */
  isLastCommitOurs = false;
  /** Whether what stands committed leaves nothing in doubt, and nothing out. */
  clean = false;
  commitFailures = 0;
  /** No commit before then, after one that failed. */
  commitNotBefore = Number.NEGATIVE_INFINITY;

  /** Begins where the progress is; without a lastCommit commit at an offset that is to be found out. */
  constructor(at: TopicPartition, lastCommit: Commit | undefined, progress: Progress, identity?: TopicIdentity) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.lastCommit = lastCommit;
    this.identity = identity;
    this.ledger = new PartitionLedger(at, progress);
    this.watermark = new DeliveredWatermark(progress.watermark);
  }

  /** Begins where a group's commit says, or at the beginning if there is none. */
  static from(found: CommittedOffset): AssignedPartition {
    const { offset, metadata } = found;
    if (offset < 0) return new AssignedPartition(found, undefined, beginning(0));
    return new AssignedPartition(found, { offset, metadata }, decodeProgress({ offset, metadata }).progress);
  }

  /** Whether something is finished that is not known to be committed. */
  get behind(): boolean {
    return !this.isLastCommitOurs || this.lastCommit?.offset !== this.ledger.prefix;
  }

  /** Whether its records may be handed out. */
  get isDispatchable(): boolean {
    return !this.closing && !this.gone && !this.suspended && this.ledger.begun;
  }

  /** What counts against the prefetch: handed out, and neither given back nor confirmed as finished. */
  get unsettled(): number {
    return this.ledger.inFlight + this.ledger.unconfirmed;
  }

  /** Whether nothing that was handed out is in doubt, wherever a commit got to. */
  get exact(): boolean {
    return this.unsettled === 0 && this.watermark.endsBy(this.ledger.prefix);
  }
}

/** The partitions that are ours and that we know our way in. */
export class AssignedPartitions {
  readonly #byKey = new Map<string, AssignedPartition>();
  readonly #byLedger = new Map<PartitionLedger, AssignedPartition>();
  #all: readonly AssignedPartition[] = [];

  /** In no order that matters; does not change under a caller. */
  get all(): readonly AssignedPartition[] {
    return this.#all;
  }

  get(at: TopicPartition): AssignedPartition | undefined {
    return this.#byKey.get(partitionKey(at));
  }

  /** The one whose ledger it is, as long as it is ours. */
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

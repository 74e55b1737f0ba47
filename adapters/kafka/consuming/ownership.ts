import type { Clock } from "../../../core/clock.ts";
import { Conditions } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { GroupMember, MemberOwner } from "../group/contract.ts";
import type { TopicId, TopicPartition } from "../port.ts";
import type { TopicIdentity } from "../topic-identity.ts";
import { Assignments } from "./assignments.ts";
import type { ConsumerParts } from "./consumer-parts.ts";
import type { HeldRecord, RecordSink } from "./contract.ts";
import { describePartition, OwnedPartition } from "./owned-partition.ts";
import type { OwnedPartitions } from "./owned-partitions.ts";
import { beginning, decodeProgress, type Progress, progressIn } from "./progress.ts";
import { beyondNotice, madeAgainNotice, translatedNotice } from "./stalls.ts";

/** How long the last commit for a partition may take that others are to have, and at the end. */
const LAST_COMMIT_MS = 8_000;
const CLOSING_COMMIT_MS = 5_000;

/** What owning partitions needs of the consumer. */
export interface OwnershipHost {
  /** Reads a partition from now on, or no more. */
  read(partition: OwnedPartition): void;
  unread(partition: OwnedPartition): void;
  /** Commits soon what is urgent. */
  commit(): void;
  /** Hands out what may be handed out now. */
  deal(): void;
  stalled(cause: MessagingError, kind?: string): void;
  /** The membership, or what stands committed, cannot be had for now. */
  failed(cause: MessagingError): void;
}

/** How partitions come to be ours, and how they cease to be. */
export class Ownership implements MemberOwner {
  readonly #group: string;
  readonly #partitions: OwnedPartitions;
  readonly #drainMs: number;
  readonly #sink: RecordSink;
  readonly #host: OwnershipHost;
  readonly #assignments: Assignments;
  readonly #quiet: Conditions;
  /** What was told of topics that are others than they were. */
  /** The ids of the topics that were read. */
  readonly #topics = new Map<string, TopicId>();
  readonly #told = new Set<string>();
  #member: GroupMember | undefined;
  #closing = false;

  constructor(
    group: string,
    partitions: OwnedPartitions,
    parts: Pick<ConsumerParts, "clock" | "random" | "retry" | "drainMs"> & { readonly clock: Clock },
    sink: RecordSink,
    host: OwnershipHost,
  ) {
    this.#group = group;
    this.#partitions = partitions;
    this.#drainMs = parts.drainMs;
    this.#sink = sink;
    this.#host = host;
    this.#quiet = new Conditions(parts.clock);
    this.#assignments = new Assignments(group, parts, {
      begin: (partition) => this.#begin(partition),
      stalled: (cause, kind) => host.stalled(cause, kind),
      notice: (error) => sink.notice(error),
    });
  }

  /** The membership stands. What was assigned before waits for this. */
  start(member: GroupMember): void {
    this.#member = member;
    this.#assignments.start(member);
  }

  /** Whether there are partitions whose progress cannot be had. */
  get failing(): boolean {
    return this.#assignments.failing;
  }

  /** Something was settled or committed. */
  check(): void {
    this.#quiet.check();
  }

  /** Gives everything up: what is out counts as never handed out, what was finished is committed if it can be. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#assignments.close();
    const { all } = this.#partitions;
    for (const partition of all) {
      this.#retire(partition);
      partition.ledger.abandon();
    }
    await this.#commitLast(all, CLOSING_COMMIT_MS);
    for (const partition of this.#partitions.all) this.#drop(partition);
  }

  // What the member says.

  assigned(partitions: readonly TopicPartition[]): void {
    if (this.#closing) return;
    // If one was ours already, its former life has ended.
    for (const partition of this.#owned(partitions)) this.#lose(partition, this.#notOurs(partition));
    this.#assignments.add(partitions);
  }

  async revoke(partitions: readonly TopicPartition[]): Promise<void> {
    this.#assignments.remove(partitions);
    const revoked = this.#owned(partitions);
    for (const partition of revoked) this.#retire(partition);
    const held = revoked.flatMap(({ ledger }) => ledger.held());
    if (held.length > 0) this.#sink.revoke(held);
    const isDone = ({ gone, ledger }: OwnedPartition): boolean => gone || ledger.inHands === 0;
    await this.#quiet.until(() => revoked.every(isDone), this.#drainMs);
    const left = revoked.flatMap(({ ledger }) => ledger.abandon());
    if (left.length > 0) this.#sink.lost(left, this.#overdue(left));
    await this.#commitLast(revoked, LAST_COMMIT_MS);
    for (const partition of revoked) this.#drop(partition);
    // What is handed out one at a time may have waited for these.
    this.#host.deal();
  }

  lost(partitions: readonly TopicPartition[], cause: MessagingError): void {
    this.#assignments.remove(partitions);
    for (const partition of this.#owned(partitions)) this.#lose(partition, cause);
    this.#host.deal();
  }

  failed(cause: MessagingError): void {
    if (!this.#closing) this.#host.failed(cause);
  }

  // What else ends the life of a partition.

  /** A commit was refused. The member may not know yet, or be told otherwise by now: what it keeps begins anew. */
  fenced(partition: OwnedPartition): void {
    this.#lose(partition, this.#notOurs(partition));
    this.#assignments.again(partition);
  }

  /** The cluster does not know it: for all we know its log is gone. */
  vanished(partition: OwnedPartition): void {
    partition.suspended = true;
    this.#member?.refresh();
    this.#quiet.check();
  }

  /** The cluster says which topic it is that has the name. What is known of another one's log means nothing in it. */
  identified(partition: OwnedPartition, topic: TopicIdentity): void {
    const { identity, standing } = partition;
    const known = identity ?? (standing === undefined ? topic : (decodeProgress(standing).of ?? topic));
    if (known.id !== topic.id) {
      const progress = identity === undefined && standing !== undefined ? progressIn(topic, standing) : undefined;
      if (progress === undefined) this.#madeAgain(partition, topic);
      else this.#translated(partition, topic, progress);
      return;
    }
    // It was gone for so long that the group forgot it, and its offsets went with it.
    const before = this.#topics.get(partition.topic) ?? topic.id;
    this.#topics.set(partition.topic, topic.id);
    if (before !== topic.id) this.#tell(madeAgainNotice(partition, this.#group), topic);
    partition.identity = topic;
    if (!partition.suspended) return;
    partition.suspended = false;
    this.#host.commit();
    this.#host.deal();
  }

  #madeAgain(partition: OwnedPartition, topic: TopicIdentity): void {
    const cause = madeAgainNotice(partition, this.#group);
    this.#replace(partition, cause, new OwnedPartition(partition, partition.standing, beginning(0), topic));
    // It may have other partitions.
    this.#member?.refresh();
  }

  /** The commit was brought from another cluster, or for another name. */
  #translated(partition: OwnedPartition, topic: TopicIdentity, progress: Progress): void {
    const cause = translatedNotice(partition, this.#group);
    this.#replace(partition, cause, new OwnedPartition(partition, partition.standing, progress, topic));
  }

  /** Tells it once of all partitions of the topic. */
  #replace(partition: OwnedPartition, cause: MessagingError, by: OwnedPartition): void {
    this.#tell(cause, by.identity);
    if (by.identity !== undefined) this.#topics.set(by.topic, by.identity.id);
    this.#lose(partition, cause);
    this.#begin(by);
  }

  #tell(cause: MessagingError, topic: TopicIdentity | undefined): void {
    const told = `${topic?.id} ${cause.message}`;
    if (!this.#told.has(told)) this.#sink.notice(cause);
    this.#told.add(told);
  }

  /** Its log ends before where we are. */
  beyond(partition: OwnedPartition, end: number, earliest: number): void {
    const cause = beyondNotice(partition, partition.ledger.position, end, earliest);
    this.#sink.notice(cause);
    this.#lose(partition, cause);
    this.#begin(new OwnedPartition(partition, partition.standing, beginning(earliest), partition.identity));
  }

  #owned(partitions: readonly TopicPartition[]): readonly OwnedPartition[] {
    return partitions.flatMap((at) => this.#partitions.get(at) ?? []);
  }

  #begin(partition: OwnedPartition): void {
    this.#partitions.add(partition);
    this.#host.read(partition);
  }

  /** Nothing more of it is read or handed out. */
  #retire(partition: OwnedPartition): void {
    partition.closing = true;
    partition.clean = false;
    this.#host.unread(partition);
  }

  async #commitLast(partitions: readonly OwnedPartition[], withinMs: number): Promise<void> {
    for (const partition of partitions) {
      partition.urgent = true;
      partition.commitNotBefore = Number.NEGATIVE_INFINITY;
    }
    this.#host.commit();
    // Where nothing was read yet nothing was touched either: what is committed still stands.
    const isOver = ({ gone, clean, suspended, ledger }: OwnedPartition): boolean =>
      gone || clean || suspended || !ledger.begun;
    await this.#quiet.until(() => partitions.every(isOver), withinMs);
  }

  #lose(partition: OwnedPartition, cause: MessagingError): void {
    const held = partition.ledger.abandon();
    this.#drop(partition);
    if (held.length > 0) this.#sink.lost(held, cause);
  }

  #drop(partition: OwnedPartition): void {
    if (partition.gone) return;
    partition.gone = true;
    this.#host.unread(partition);
    this.#partitions.remove(partition);
    partition.settlements.fence();
    this.#quiet.check();
  }

  #notOurs(partition: OwnedPartition): MessagingError {
    const what = `${describePartition(partition)} went to another member of group "${this.#group}"`;
    return new MessagingError("unreachable", `${what}; what was out is delivered again`);
  }

  #overdue(left: readonly HeldRecord[]): MessagingError {
    const where = describePartition(left[0] as HeldRecord);
    return new MessagingError(
      "timeout",
      `${left.length} records, the first of them of ${where}, were not done within ${this.#drainMs} ms, when others were to have their partitions; they are delivered there again`,
    );
  }
}

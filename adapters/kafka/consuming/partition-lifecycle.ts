import { type Clock, Conditions, type Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { GroupMember, RebalanceListener } from "../group/coordinator.ts";
import { partitionKey, type TopicIdentity } from "../names.ts";
import type { CommittedOffset, PartitionOffset, TopicId, TopicPartition } from "../port.ts";
import {
  AssignedPartition,
  type AssignedPartitions,
  describePartition,
  type RecordSink,
} from "./assigned-partition.ts";
import {
  beyondNotice,
  type FetcherDependencies,
  metadataNotice,
  recreatedNotice,
  refusedError,
  translatedNotice,
} from "./fetch-failures.ts";
import type { DeliveredRecord } from "./partition-ledger.ts";
import { beginning, decodeProgress, isOurs, isReadable, type Progress, progressIn } from "./progress.ts";

interface ProgressLoaderEvents {
  begin(partition: AssignedPartition): void;
  /** `kind` groups causes that several partitions share. */
  stalled(cause: MessagingError, kind?: string): void;
  notice(error: MessagingError): void;
}

/** One assignment of a partition. */
interface Assignment extends TopicPartition {
  failures: number;
}

/** How long the member may take to notice that a partition is not ours. */
const AGAIN_AFTER_MS = 2_000;

/** Reads the committed progress of assigned partitions. */
class ProgressLoader {
  readonly #group: string;
  readonly #dependencies: Pick<FetcherDependencies, "clock" | "random" | "retry">;
  readonly #events: ProgressLoaderEvents;
  readonly #assigned = new Map<string, Assignment>();
  readonly #timers = new Set<Timer>();
  #member: GroupMember | undefined;
  #closed = false;

  constructor(
    group: string,
    dependencies: Pick<FetcherDependencies, "clock" | "random" | "retry">,
    events: ProgressLoaderEvents,
  ) {
    this.#group = group;
    this.#dependencies = dependencies;
    this.#events = events;
  }

  start(member: GroupMember): void {
    this.#member = member;
    this.#ask([...this.#assigned.values()]);
  }

  add(partitions: readonly TopicPartition[]): void {
    const added = partitions.map(({ topic, partition }): Assignment => ({ topic, partition, failures: 0 }));
    for (const assignment of added) this.#assigned.set(partitionKey(assignment), assignment);
    this.#ask(added);
  }

  remove(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) this.#assigned.delete(partitionKey(at));
  }

  /** Whether some partition's progress cannot be read. */
  get failing(): boolean {
    for (const { failures } of this.#assigned.values()) if (failures > 0) return true;
    return false;
  }

  /** Loads a partition again later, if it is still assigned. */
  again(at: TopicPartition): void {
    const assignment = this.#assigned.get(partitionKey(at));
    if (assignment !== undefined) this.#askLater(assignment, AGAIN_AFTER_MS);
  }

  close(): void {
    this.#closed = true;
    this.#assigned.clear();
    for (const timer of this.#timers) this.#dependencies.clock.cancel(timer);
    this.#timers.clear();
  }

  #ask(assignments: readonly Assignment[]): void {
    const wanted = assignments.filter((assignment) => this.#isCurrent(assignment));
    if (this.#member === undefined || wanted.length === 0) return;
    this.#member.committed(wanted.map(({ topic, partition }) => ({ topic, partition }))).then(
      (committed) => this.#answer(wanted, committed),
      (error: unknown) => {
        if (this.#closed) return;
        this.#events.stalled(asError(error, this.#group));
        for (const assignment of wanted) this.#retry(assignment);
      },
    );
  }

  #isCurrent(assignment: Assignment): boolean {
    return this.#assigned.get(partitionKey(assignment)) === assignment;
  }

  #answer(wanted: readonly Assignment[], committed: readonly CommittedOffset[]): void {
    const byKey = new Map(committed.map((offset) => [partitionKey(offset), offset]));
    for (const assignment of wanted) {
      if (!this.#isCurrent(assignment)) continue;
      const found = byKey.get(partitionKey(assignment));
      const error = found === undefined ? "UNSTABLE_OFFSET_COMMIT" : found.error;
      if (found === undefined || error !== undefined) {
        this.#events.stalled(refusedError(error ?? "", assignment, 0), `offsets ${error}`);
        this.#retry(assignment);
      } else {
        assignment.failures = 0;
        this.#begin(found);
      }
    }
  }

  #begin(found: CommittedOffset): void {
    const { offset, metadata } = found;
    if (offset >= 0 && isOurs(metadata) && !isReadable(metadata)) {
      this.#events.notice(metadataNotice(found, this.#group, offset));
    }
    this.#events.begin(AssignedPartition.from(found));
  }

  #retry(assignment: Assignment): void {
    const { retry, random } = this.#dependencies;
    this.#askLater(assignment, backoffMs(++assignment.failures, retry, random));
  }

  #askLater(assignment: Assignment, ms: number): void {
    if (this.#closed) return;
    const timer = this.#dependencies.clock.schedule(() => {
      this.#timers.delete(timer);
      this.#ask([assignment]);
    }, ms);
    this.#timers.add(timer);
  }
}

function asError(error: unknown, group: string): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", `the offsets of group "${group}" cannot be read; it is tried again`, {
    cause: error,
  });
}

/** How long the last commit may take, on revocation and on close. */
const LAST_COMMIT_MS = 8_000;
const CLOSING_COMMIT_MS = 5_000;

/** What the partition lifecycle needs of the consumer. */
interface PartitionLifecycleEvents {
  /** Starts or stops to read a partition. */
  read(partition: AssignedPartition): void;
  unread(partition: AssignedPartition): void;
  /** Commits what is urgent. */
  commit(): void;
  /** Delivers what may be delivered now. */
  dispatch(): void;
  stalled(cause: MessagingError, kind?: string): void;
  /** The group or the committed progress cannot be reached. */
  failed(cause: MessagingError): void;
}

/** Takes assigned partitions in, and drains and drops revoked and lost ones. */
export class PartitionLifecycle implements RebalanceListener {
  readonly #group: string;
  readonly #partitions: AssignedPartitions;
  readonly #drainMs: number;
  readonly #sink: RecordSink;
  readonly #events: PartitionLifecycleEvents;
  readonly #progressLoader: ProgressLoader;
  readonly #conditions: Conditions;
  /** The ids of the topics that were read. */
  readonly #topics = new Map<string, TopicId>();
  readonly #reported = new Set<string>();
  #member: GroupMember | undefined;
  #closing = false;

  constructor(
    group: string,
    partitions: AssignedPartitions,
    dependencies: Pick<ConsumerDependencies, "clock" | "random" | "retry" | "drainMs"> & { readonly clock: Clock },
    sink: RecordSink,
    events: PartitionLifecycleEvents,
  ) {
    this.#group = group;
    this.#partitions = partitions;
    this.#drainMs = dependencies.drainMs;
    this.#sink = sink;
    this.#events = events;
    this.#conditions = new Conditions(dependencies.clock);
    this.#progressLoader = new ProgressLoader(group, dependencies, {
      begin: (partition) => this.#begin(partition),
      stalled: (cause, kind) => events.stalled(cause, kind),
      notice: (error) => sink.notice(error),
    });
  }

  /** The member exists. Earlier assignments wait for this. */
  start(member: GroupMember): void {
    this.#member = member;
    this.#progressLoader.start(member);
  }

  /** Whether some partition's progress cannot be read. */
  get failing(): boolean {
    return this.#progressLoader.failing;
  }

  /** A delivery was settled, or a commit ended. */
  check(): void {
    this.#conditions.check();
  }

  /** Drops all partitions. Deliveries in flight count as not delivered; finished records are committed if possible. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#progressLoader.close();
    const { all } = this.#partitions;
    for (const partition of all) {
      this.#retire(partition);
      partition.ledger.abandon();
    }
    await this.#commitLast(all, CLOSING_COMMIT_MS);
    for (const partition of this.#partitions.all) this.#drop(partition);
  }

  // From the group member.

  assigned(partitions: readonly TopicPartition[]): void {
    if (this.#closing) return;
    // A partition that was ours already was lost in between.
    for (const partition of this.#owned(partitions)) this.#lose(partition, this.#notOurs(partition));
    this.#progressLoader.add(partitions);
  }

  async revoke(partitions: readonly TopicPartition[]): Promise<void> {
    this.#progressLoader.remove(partitions);
    const revoked = this.#owned(partitions);
    for (const partition of revoked) this.#retire(partition);
    const held = revoked.flatMap(({ ledger }) => ledger.inFlightRecords());
    if (held.length > 0) this.#sink.revoke(held);
    const isDone = ({ gone, ledger }: AssignedPartition): boolean => gone || ledger.inFlight === 0;
    await this.#conditions.until(() => revoked.every(isDone), this.#drainMs);
    const left = revoked.flatMap(({ ledger }) => ledger.abandon());
    if (left.length > 0) this.#sink.lost(left, this.#overdue(left));
    await this.#commitLast(revoked, LAST_COMMIT_MS);
    for (const partition of revoked) this.#drop(partition);
    // Records delivered one at a time may have waited for these.
    this.#events.dispatch();
  }

  lost(partitions: readonly TopicPartition[], cause: MessagingError): void {
    this.#progressLoader.remove(partitions);
    for (const partition of this.#owned(partitions)) this.#lose(partition, cause);
    this.#events.dispatch();
  }

  failed(cause: MessagingError): void {
    if (!this.#closing) this.#events.failed(cause);
  }

  // From the committer and the fetcher.

  /** A commit was refused. If the member keeps the partition, it starts anew. */
  fenced(partition: AssignedPartition): void {
    this.#lose(partition, this.#notOurs(partition));
    this.#progressLoader.again(partition);
  }

  /** The cluster does not know the partition: its log may be gone. */
  vanished(partition: AssignedPartition): void {
    partition.suspended = true;
    this.#member?.refresh();
    this.#conditions.check();
  }

  /** The cluster named the current topic of this name. Offsets of another topic mean nothing in it. */
  identified(partition: AssignedPartition, topic: TopicIdentity): void {
    const { identity, lastCommit } = partition;
    const known = identity ?? (lastCommit === undefined ? topic : (decodeProgress(lastCommit).of ?? topic));
    if (known.id !== topic.id) {
      const progress = identity === undefined && lastCommit !== undefined ? progressIn(topic, lastCommit) : undefined;
      if (progress === undefined) this.#recreated(partition, topic);
      else this.#translated(partition, topic, progress);
      return;
    }
    // The topic was gone for so long that the group forgot its offsets.
    const before = this.#topics.get(partition.topic) ?? topic.id;
    this.#topics.set(partition.topic, topic.id);
    if (before !== topic.id) this.#report(recreatedNotice(partition, this.#group), topic);
    partition.identity = topic;
    if (!partition.suspended) return;
    partition.suspended = false;
    this.#events.commit();
    this.#events.dispatch();
  }

  #recreated(partition: AssignedPartition, topic: TopicIdentity): void {
    const cause = recreatedNotice(partition, this.#group);
    this.#replace(partition, cause, new AssignedPartition(partition, partition.lastCommit, beginning(0), topic));
    // The new topic may have other partitions.
    this.#member?.refresh();
  }

  /** The commit came from another cluster, or from a topic of another name. */
  #translated(partition: AssignedPartition, topic: TopicIdentity, progress: Progress): void {
    const cause = translatedNotice(partition, this.#group);
    this.#replace(partition, cause, new AssignedPartition(partition, partition.lastCommit, progress, topic));
  }

  /** Reports it once for all partitions of the topic. */
  #replace(partition: AssignedPartition, cause: MessagingError, by: AssignedPartition): void {
    this.#report(cause, by.identity);
    if (by.identity !== undefined) this.#topics.set(by.topic, by.identity.id);
    this.#lose(partition, cause);
    this.#begin(by);
  }

  #report(cause: MessagingError, topic: TopicIdentity | undefined): void {
    const text = `${topic?.id} ${cause.message}`;
    if (!this.#reported.has(text)) this.#sink.notice(cause);
    this.#reported.add(text);
  }

  /** The log ends before the position. */
  beyond(partition: AssignedPartition, end: number, earliest: number): void {
    const cause = beyondNotice(partition, partition.ledger.position, end, earliest);
    this.#sink.notice(cause);
    this.#lose(partition, cause);
    this.#begin(new AssignedPartition(partition, partition.lastCommit, beginning(earliest), partition.identity));
  }

  #owned(partitions: readonly TopicPartition[]): readonly AssignedPartition[] {
    return partitions.flatMap((at) => this.#partitions.get(at) ?? []);
  }

  #begin(partition: AssignedPartition): void {
    this.#partitions.add(partition);
    this.#events.read(partition);
  }

  /** Reads and delivers no more of it. */
  #retire(partition: AssignedPartition): void {
    partition.closing = true;
    partition.clean = false;
    this.#events.unread(partition);
  }

  async #commitLast(partitions: readonly AssignedPartition[], withinMs: number): Promise<void> {
    for (const partition of partitions) {
      partition.urgent = true;
      partition.commitNotBefore = Number.NEGATIVE_INFINITY;
    }
    this.#events.commit();
    // Before the first fetch nothing was delivered, so the commit is still right.
    const isOver = ({ gone, clean, suspended, ledger }: AssignedPartition): boolean =>
      gone || clean || suspended || !ledger.begun;
    await this.#conditions.until(() => partitions.every(isOver), withinMs);
  }

  #lose(partition: AssignedPartition, cause: MessagingError): void {
    const held = partition.ledger.abandon();
    this.#drop(partition);
    if (held.length > 0) this.#sink.lost(held, cause);
  }

  #drop(partition: AssignedPartition): void {
    if (partition.gone) return;
    partition.gone = true;
    this.#events.unread(partition);
    this.#partitions.remove(partition);
    partition.settlements.fence();
    this.#conditions.check();
  }

  #notOurs(partition: AssignedPartition): MessagingError {
    const what = `${describePartition(partition)} went to another member of group "${this.#group}"`;
    return new MessagingError("unreachable", `${what}; what was out is delivered again`);
  }

  #overdue(left: readonly DeliveredRecord[]): MessagingError {
    const where = describePartition(left[0] as DeliveredRecord);
    return new MessagingError(
      "timeout",
      `${left.length} records, the first of them of ${where}, were not done within ${this.#drainMs} ms, when others were to have their partitions; they are delivered there again`,
    );
  }
}

/** Joins a group as a member that reads these topics. */
type OpenMember = (
  subscription: { readonly group: string; readonly topics: readonly string[] },
  listener: RebalanceListener,
) => GroupMember;

/** What a consumer is made of. */
export interface ConsumerDependencies extends Omit<FetcherDependencies, "wanted" | "deliversUnreadable"> {
  readonly openMember: OpenMember;
  /** Milliseconds that deliveries may take to settle when their partition is revoked. */
  readonly drainMs: number;
  /** Everything below the offset is finished and committed: it may be deleted. */
  readonly progressed?: ((at: PartitionOffset) => void) | undefined;
  /** Milliseconds between reviews of the records that dead letters refer to. */
  readonly reviewMs: number;
}

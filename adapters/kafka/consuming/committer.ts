import { afterCurrentTurn, type Clock, type Random, type Timer } from "../../../core/clock.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import type { CommitOutcome, GroupMember } from "../group/coordinator.ts";
import type { TopicIdentity } from "../names.ts";
import type { PartitionOffset } from "../port.ts";
import type { AssignedPartition, AssignedPartitions } from "./assigned-partition.ts";
import { type Commit, encodeProgress } from "./progress.ts";

/** What a committer needs of its consumer. */
interface CommitterEvents {
  /** The watermark for the next commit. */
  watermarkOf(partition: AssignedPartition): number;
  /** A commit ended; `committed`: whether anything was committed. */
  answered(committed: boolean): void;
  /** Whether a delivery or settlement waits for the next commit. */
  isPressing(): boolean;
  /** The coordinator says that the partition is not ours. */
  fenced(partition: AssignedPartition): void;
  /** A partition's commits failed this often in a row. */
  failing(partition: AssignedPartition, failures: number): void;
  /** Everything below the offset is finished and committed. */
  progressed(at: PartitionOffset): void;
}

/** How long commits that nothing waits for are gathered, so that small ones do not keep the broker busy. */
const GATHERING_MS = 5;

interface Sent {
  readonly partition: AssignedPartition;
  readonly lastCommit: Commit;
  readonly watermark: number;
  readonly finished: number;
  readonly clean: boolean;
}

/** Commits progress. One commit is under way at a time; the next takes everything that arrived meanwhile. */
export class Committer {
  readonly #member: GroupMember;
  readonly #partitions: AssignedPartitions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #retry: BackoffTimes;
  readonly #events: CommitterEvents;
  #scheduled = false;
  #underWay = false;
  #begunAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #closed = false;

  constructor(
    member: GroupMember,
    partitions: AssignedPartitions,
    dependencies: { readonly clock: Clock; readonly random: Random; readonly retry: BackoffTimes },
    events: CommitterEvents,
  ) {
    this.#member = member;
    this.#partitions = partitions;
    this.#clock = dependencies.clock;
    this.#random = dependencies.random;
    this.#retry = dependencies.retry;
    this.#events = events;
  }

  /** Commits after this turn if any partition needs it, together with all others that are behind. */
  commit(): void {
    if (this.#scheduled || this.#underWay || this.#closed) return;
    this.#scheduled = true;
    afterCurrentTurn(() => {
      this.#scheduled = false;
      void this.#commit();
    });
  }

  /** Ends committing. */
  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  async #commit(): Promise<void> {
    if (this.#underWay || this.#closed) return;
    const now = this.#clock.monotonic();
    const ready = this.#partitions.all.filter(
      ({ ledger, identity, suspended, commitNotBefore }) =>
        ledger.begun && identity !== undefined && !suspended && commitNotBefore <= now,
    );
    const early = this.#begunAt + GATHERING_MS - now;
    if (!ready.some(({ urgent }) => urgent)) {
      this.#commitLater(now);
      return;
    }
    if (early > 0 && !this.#events.isPressing()) {
      this.#wakeIn(early);
      return;
    }
    this.#underWay = true;
    this.#begunAt = now;
    const chosen = ready.filter(({ urgent, behind }) => urgent || behind);
    const offsets: (PartitionOffset & { readonly metadata: string })[] = [];
    const sent = chosen.map((partition): Sent => {
      const progress = partition.ledger.progress(this.#events.watermarkOf(partition));
      const { topic, partition: number, ledger, identity } = partition;
      const { offset, watermark } = progress;
      const metadata = encodeProgress(progress, identity as TopicIdentity);
      offsets.push({ topic, partition: number, offset, metadata });
      partition.urgent = false;
      partition.settlements.send();
      partition.watermark.asked(watermark);
      const clean = partition.closing && ledger.inFlight === 0;
      return { partition, lastCommit: { offset, metadata }, watermark, finished: ledger.unconfirmed, clean };
    });
    const outcomes = await this.#member.commit(offsets);
    this.#underWay = false;
    for (const [index, commit] of sent.entries()) this.#end(commit, outcomes[index] ?? "failed");
    this.#events.answered(outcomes.includes("committed"));
    this.commit();
  }

  #end(commit: Sent, outcome: CommitOutcome): void {
    const { partition, lastCommit, watermark, finished, clean } = commit;
    if (partition.gone) return;
    if (outcome === "fenced") {
      this.#events.fenced(partition);
    } else if (outcome === "failed") {
      partition.settlements.fail();
      partition.urgent = true;
      partition.commitFailures++;
      partition.commitNotBefore =
        this.#clock.monotonic() + backoffMs(partition.commitFailures, this.#retry, this.#random);
      this.#events.failing(partition, partition.commitFailures);
    } else {
      partition.commitFailures = 0;
      partition.ledger.confirm(finished);
      partition.watermark.confirmed(watermark);
      partition.clean = clean;
      const { offset } = lastCommit;
      const progressed = partition.lastCommit?.offset !== offset;
      partition.lastCommit = lastCommit;
      partition.isLastCommitOurs = true;
      partition.settlements.confirm();
      if (progressed) this.#events.progressed({ topic: partition.topic, partition: partition.partition, offset });
    }
  }

  /** A failed commit waits for its retry time. */
  #commitLater(now: number): void {
    let due = Number.POSITIVE_INFINITY;
    for (const { urgent, suspended, ledger, commitNotBefore } of this.#partitions.all) {
      if (urgent && !suspended && ledger.begun) due = Math.min(due, commitNotBefore);
    }
    if (due === Number.POSITIVE_INFINITY) this.#cancelTimer();
    else this.#wakeIn(due - now);
  }

  #wakeIn(ms: number): void {
    this.#cancelTimer();
    this.#timer = this.#clock.schedule(() => {
      this.#timer = undefined;
      void this.#commit();
    }, ms);
  }

  #cancelTimer(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

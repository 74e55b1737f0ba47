import type { MessagingError } from "../../../core/errors.ts";
import type { CommittedOffset, PartitionOffset, TopicPartition } from "../port.ts";

/** What a member tells of its partitions. No call throws. */
export interface MemberOwner {
  /** These are ours from now on, beside those that were. */
  assigned(partitions: readonly TopicPartition[]): void;
  /**
   * Others are to have these. Resolves when nothing of them is under way any more and what was finished is committed; only
   * then the group hands them on. They are ours until then. Past the rebalance timeout they are lost. Called for others
   * while it is under way for some. If the group changed its mind they come back by `assigned` right after it resolved.
   */
  revoke(partitions: readonly TopicPartition[]): Promise<void>;
  /** These are not ours any more, and others may have them already; also while they are being revoked. */
  lost(partitions: readonly TopicPartition[], cause: MessagingError): void;
  /** There is no membership for now, or a topic cannot be read, and why; it goes on trying. Called for each attempt. */
  failed(cause: MessagingError): void;
}

/** What became of the commit for one partition: `fenced` if it is not ours; `failed` if it is worth trying again. */
export type CommitOutcome = "committed" | "fenced" | "failed";

/** A member of a consumer group, which stays one until it is closed: over rebalances, restarts and lost sessions. */
export interface GroupMember {
  /**
   * Resolves when the group has given this member, for the first time, all that it is to have at present: others may have
   * had to give it up first. Rejects with `conflict` if members of another protocol are in the group before that; this one
   * goes on trying until it is closed. Stays open if neither comes about.
   */
  readonly complete: Promise<void>;
  /**
   * Commits for partitions that are ours, in one request; one outcome each, in order. Tries for up to 10 s, over
   * rebalances. A commit of a partition is to wait for the one before it. Never rejects.
   */
  commit(offsets: readonly (PartitionOffset & { readonly metadata: string })[]): Promise<readonly CommitOutcome[]>;
  /**
   * What stands committed, asked of the coordinator, in order and without errors; tries until it answers. Rejects with
   * `closed` once the member is closed.
   */
  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]>;
  /** The topics may have changed: a partition or a topic is missing, or there are more. Looks now instead of soon. */
  refresh(): void;
  /** Leaves the group at once, without asking its owner for anything. A second call waits for the first. */
  close(): Promise<void>;
}

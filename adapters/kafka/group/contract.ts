import type { MessagingError } from "../../../core/errors.ts";
import type { CommittedOffset, PartitionOffset, TopicPartition } from "../port.ts";

/** What a member tells of its partitions. No call throws. */
export interface MemberOwner {
  /** These are ours from now on, beside those that were. */
  assigned(partitions: readonly TopicPartition[]): void;
  /**
   * Others are to have these. Resolves when nothing of them is under way any more and what was finished is committed; only
   * then the group hands them on. They are ours until then.
   */
  revoke(partitions: readonly TopicPartition[]): Promise<void>;
  /** These are not ours any more, and others may have them already. */
  lost(partitions: readonly TopicPartition[], cause: MessagingError): void;
  /** There is no membership for now, and why; it goes on trying. */
  failed(cause: MessagingError): void;
}

/** What became of the commit for one partition: `fenced` if it is not ours; `failed` if it is worth trying again. */
export type CommitOutcome = "committed" | "fenced" | "failed";

/** A member of a consumer group, which stays one until it is closed: over rebalances, restarts and lost sessions. */
export interface GroupMember {
  /** Commits for partitions that are ours, in one request; one outcome each, in order. Never rejects. */
  commit(offsets: readonly (PartitionOffset & { readonly metadata: string })[]): Promise<readonly CommitOutcome[]>;
  /** What stands committed, asked of the coordinator; tries until it answers or the member is closed. */
  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]>;
  /** Leaves the group at once, without asking its owner for anything. A second call waits for the first. */
  close(): Promise<void>;
}

import type { CommittedOffset, TopicPartition } from "../port.ts";
import type { TopicIdentity } from "../topic-identity.ts";
import { PartitionLedger } from "./partition-ledger.ts";
import { beginning, type Commit, decodeProgress, type Progress } from "./progress.ts";
import { Reach } from "./reach.ts";
import { Settlements } from "./settlements.ts";

export function partitionKey({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/** `partition 3 of topic "orders"`. */
export function describePartition({ topic, partition }: TopicPartition): string {
  return `partition ${partition} of topic "${topic}"`;
}

/** A commit as it stands. */
export type Standing = Commit;

/**
 * A partition from where it became ours to where it is not any more; if it comes back it is another. So it is if its topic
 * is another one.
 */
export class OwnedPartition implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly ledger: PartitionLedger;
  readonly reach: Reach;
  readonly settlements = new Settlements();
  /** Which topic it is of: where we are in it means nothing in another. Undefined until the cluster was asked. */
  identity: TopicIdentity | undefined;
  /** Nothing more is handed out: others are to have it, or the consumer ends. */
  closing = false;
  /** It is not ours any more. */
  gone = false;
  /** Nothing is handed out or committed for now: whether its log is still the one we know is in doubt. */
  suspended = false;
  /** The record that is to be handed out by itself, once the reach says so exactly. */
  single: number | undefined;
  /** A commit is waited for. */
  urgent = false;
  /** What stands committed, as far as we know; undefined for nothing. */
  standing: Standing | undefined;
  /** Whether that is ours. */
  committed = false;
  /** Whether what stands committed leaves nothing in doubt, and nothing out. */
  clean = false;
  commitFailures = 0;
  /** No commit before then, after one that failed. */
  commitNotBefore = Number.NEGATIVE_INFINITY;

  /** Begins where the progress is; without a standing commit at an offset that is to be found out. */
  constructor(at: TopicPartition, standing: Standing | undefined, progress: Progress, identity?: TopicIdentity) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.standing = standing;
    this.identity = identity;
    this.ledger = new PartitionLedger(at, progress);
    this.reach = new Reach(progress.reach);
  }

  /** Begins where a group's commit says, or at the beginning if there is none. */
  static from(found: CommittedOffset): OwnedPartition {
    const { offset, metadata } = found;
    if (offset < 0) return new OwnedPartition(found, undefined, beginning(0));
    return new OwnedPartition(found, { offset, metadata }, decodeProgress({ offset, metadata }).progress);
  }

  /** Whether something is finished that is not known to be committed. */
  get behind(): boolean {
    return !this.committed || this.standing?.offset !== this.ledger.prefix;
  }

  /** Whether its records may be handed out. */
  get dealt(): boolean {
    return !this.closing && !this.gone && !this.suspended && this.ledger.begun;
  }

  /** What counts against the prefetch: handed out, and neither given back nor confirmed as finished. */
  get unsettled(): number {
    return this.ledger.inHands + this.ledger.unconfirmed;
  }

  /** Whether nothing that was handed out is in doubt, wherever a commit got to. */
  get exact(): boolean {
    return this.unsettled === 0 && this.reach.endsBy(this.ledger.prefix);
  }
}

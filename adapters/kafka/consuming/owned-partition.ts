import type { TopicPartition } from "../port.ts";
import { PartitionLedger } from "./partition-ledger.ts";
import type { Progress } from "./progress.ts";
import { Reach } from "./reach.ts";
import { Settlements } from "./settlements.ts";

export function partitionKey({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

/** `partition 3 of topic "orders"`. */
export function describePartition({ topic, partition }: TopicPartition): string {
  return `partition ${partition} of topic "${topic}"`;
}

/** A partition from where it became ours to where it is not any more; if it comes back it is another. */
export class OwnedPartition implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly ledger: PartitionLedger;
  readonly reach: Reach;
  readonly settlements = new Settlements();
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
  /** Where records before it are committed as finished; undefined as long as we have not committed. */
  committedOffset: number | undefined;
  /** Whether what stands committed leaves nothing in doubt, and nothing out. */
  clean = false;
  commitFailures = 0;
  /** No commit before then, after one that failed. */
  commitNotBefore = Number.NEGATIVE_INFINITY;

  constructor(at: TopicPartition, progress: Progress) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.ledger = new PartitionLedger(at, progress);
    this.reach = new Reach(progress.reach);
  }

  /** Whether its records may be handed out. */
  get dealt(): boolean {
    return !this.closing && !this.gone && !this.suspended && this.ledger.begun;
  }

  /** What counts against the window: handed out, and neither given back nor confirmed as finished. */
  get unsettled(): number {
    return this.ledger.inHands + this.ledger.unconfirmed;
  }

  /** Whether nothing that was handed out is in doubt, wherever a commit got to. */
  get exact(): boolean {
    return this.unsettled === 0 && this.reach.endsBy(this.ledger.prefix);
  }
}

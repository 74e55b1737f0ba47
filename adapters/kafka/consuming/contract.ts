import type { DeliveryToken, Receiver } from "../../../core/adapter.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import type { References } from "./reviews.ts";

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

/** A record that is ours until it is settled; it is its own delivery token. */
export interface HeldRecord extends TopicPartition {
  readonly record: LogRecord;
  /** How many consumers died while it was, or may have been, in their hands. */
  readonly deaths: number;
}

/** Where a consumer puts what it reads. No call throws. */
export interface RecordSink {
  deliver(records: readonly HeldRecord[]): void;
  /** These are asked back: those not begun should be requeued soon, the others settled as they end. */
  revoke(records: readonly HeldRecord[]): void;
  /** No longer ours. */
  lost(records: readonly HeldRecord[], cause: MessagingError): void;
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

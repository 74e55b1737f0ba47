import type { Clock, Random } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { BackoffTimes } from "../../../core/retry-policy.ts";
import type { FetchedPartition, KafkaClient, TopicPartition } from "../port.ts";
import type { DecodedRecords } from "../records/contract.ts";
import type { TopicIdentity } from "../topic-identity.ts";
import type { ConsumerOptions } from "./contract.ts";
import type { OwnedPartition } from "./owned-partition.ts";

/** Reads a fetched piece of a log. Never throws or rejects: what cannot be read is in the result. */
export type RecordDecoder = (
  bytes: Buffer,
  options: TopicPartition & {
    readonly from: number;
    readonly abortedTransactions: FetchedPartition["abortedTransactions"];
  },
) => DecodedRecords | Promise<DecodedRecords>;

/** What fetching is made of. */
export interface FetcherParts {
  readonly client: KafkaClient;
  readonly decode: RecordDecoder;
  readonly clock: Clock;
  readonly random: Random;
  readonly retry: BackoffTimes;
  /** The most bytes that all buffers take, roughly. */
  readonly maxBufferBytes: number;
  readonly wanted: ConsumerOptions["wanted"] | undefined;
  readonly deliversUnreadable: boolean;
  /** After so many milliseconds without a sign of life the group takes a member for dead. */
  readonly sessionTimeoutMs: number;
}

/** What fetching tells. */
export interface FetcherHost {
  /** There may be more to hand out. */
  fetched(): void;
  /** What several partitions may have in common is of one `kind`. */
  stalled(cause: MessagingError, kind?: string): void;
  notice(error: MessagingError): void;
  /** Nothing was committed for a partition whose log does not begin with its first record. */
  uncommitted(partition: OwnedPartition, earliest: number): void;
  /** The cluster does not know a partition; told each time that it is asked. */
  vanished(partition: OwnedPartition): void;
  /** Which topic it is that has the name now. A partition of another is not read on. */
  identified(partition: OwnedPartition, topic: TopicIdentity): void;
  /** The log of a partition ends before the position: it is another log, or was cut. */
  beyond(partition: OwnedPartition, end: number, earliest: number): void;
}

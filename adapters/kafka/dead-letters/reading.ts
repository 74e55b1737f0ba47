import { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import type { UnreadableBatch } from "../records/contract.ts";

/**
 * For how long Kafka must keep a tombstone, in milliseconds (`delete.retention.ms`): a day.
 *
 * A reader that read a record and not yet its tombstone, when that is taken out of the log, would take the record for
 * standing. Kafka takes a tombstone out no sooner than this long after it took out the record; so a reader is safe that
 * gets from any record to the end of the log in less.
 */
export const TOMBSTONE_RETENTION_MS = 24 * 60 * 60 * 1000;

/** A reader that did not come to the end of the log for so long begins anew. */
export const STALE_AFTER_MS = TOMBSTONE_RETENTION_MS / 2;

/** How a topic of dead letters has to be configured, and what of it must not be otherwise. */
export const DEAD_LETTERS_CONFIGURATION: Readonly<Record<string, string>> = Object.freeze({
  /** Required, and alone: with `delete` in it Kafka would delete by age what nobody has seen. */
  "cleanup.policy": "compact",
  /** Required to be as long or longer. */
  "delete.retention.ms": String(TOMBSTONE_RETENTION_MS),
  /** Bodies of removed entries go from the disk within a day or two, and readers need not read over them. */
  "segment.ms": String(TOMBSTONE_RETENTION_MS),
  "max.compaction.lag.ms": String(TOMBSTONE_RETENTION_MS),
  "min.cleanable.dirty.ratio": "0.1",
});

/** Compacted topics refuse them; so this one is none. */
export function keyless({ topic, partition }: TopicPartition, offset: number): MessagingError {
  return new MessagingError(
    "invalid",
    `offset ${offset} of "${topic}", partition ${partition}, has no key and is passed over: it could not be removed. The topic has to have cleanup.policy=compact`,
  );
}

/** Dead letters may stand in it, and removals. */
export function unreadableEntries({ topic }: TopicPartition, { error }: UnreadableBatch): MessagingError {
  return new MessagingError(
    error.code,
    `dead letters in "${topic}" cannot be read and are passed over; they stay there`,
    {
      cause: error,
    },
  );
}

import { MessagingError } from "../../../core/errors.ts";
import type { TopicPartition } from "../port.ts";
import { describePartition } from "./owned-partition.ts";

/** Why a partition cannot be read, by the name of a protocol error. */
export function refusedError(error: string, at: TopicPartition, position: number): MessagingError {
  const what = `${describePartition(at)} cannot be read`;
  switch (error) {
    case "TOPIC_AUTHORIZATION_FAILED":
      return new MessagingError("unauthorized", `${what}: grant the user READ and DESCRIBE on the topic (${error})`);
    case "UNKNOWN_TOPIC_OR_PARTITION":
      return new MessagingError(
        "not-found",
        `${what}: the cluster does not know it; if the topic was deleted, make it again; it is tried again (${error})`,
      );
    case "CORRUPT_MESSAGE":
      return new MessagingError(
        "invalid",
        `${what} from offset ${position} on: the broker found it damaged; see its logs; it is tried again (${error})`,
      );
    default:
      return new MessagingError("unreachable", `${what} for now: the broker answers ${error}; it is tried again`);
  }
}

export function unreachableError(cause: MessagingError, at: TopicPartition): MessagingError {
  return new MessagingError(cause.code, `${describePartition(at)} cannot be read for now: ${cause.message}`, { cause });
}

/** What stands at an offset cannot be read. */
export function unreadableError(cause: MessagingError, at: TopicPartition, offset: number): MessagingError {
  return new MessagingError(
    cause.code,
    `${describePartition(at)} stops at offset ${offset}, which cannot be read: ${cause.message}; nothing behind it is delivered until it can be, or is deleted, or the group's offset is moved behind it`,
    { cause },
  );
}

/** A topic that was read is not there any more. */
export function goneNotice(at: TopicPartition): MessagingError {
  return new MessagingError(
    "not-found",
    `${describePartition(at)} is gone: the cluster does not know it any more; consuming goes on when it is back`,
  );
}

/** Records were deleted before they were read. */
export function missingNotice(at: TopicPartition, from: number, to: number): MessagingError {
  return new MessagingError(
    "conflict",
    `${describePartition(at)} was to be read from offset ${from} and begins at ${to}: ${to - from} offsets were deleted before they were read; consuming goes on at ${to}. Raise the topic's retention, or consume faster`,
  );
}

/** There was no offset for a partition that already lost records. */
export function uncommittedNotice(at: TopicPartition, group: string, earliest: number): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${group}" has no offset for ${describePartition(at)}, which begins at ${earliest}; it is consumed from there, the earliest that is kept`,
  );
}

/** The log ends before the offset that we were at. */
export function beyondNotice(at: TopicPartition, position: number, end: number, earliest: number): MessagingError {
  return new MessagingError(
    "conflict",
    `${describePartition(at)} was to be read from offset ${position} and ends at ${end}: its log was cut, or somebody committed that offset for the group; it is consumed anew from ${earliest}, the earliest that is kept`,
  );
}

/** A topic is another one than before. */
export function madeAgainNotice({ topic }: TopicPartition, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" is another one than group "${group}" was reading: it was deleted and made again. It is consumed from its beginning; what the group had not handled of the one before is gone with it. Find out who deleted it`,
  );
}

/** What stands committed was made in another cluster, or for a topic of another name. */
export function translatedNotice({ topic }: TopicPartition, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `the offsets of group "${group}" in topic "${topic}" were brought here from another topic, as mirrors between clusters do; it is consumed from them, and what was finished behind them is handled again`,
  );
}

/** Nothing came, though there is something. */
export function silentError(at: TopicPartition, forMs: number, behind: number): MessagingError {
  const much = behind > 0 ? `, though there are ${behind} offsets to read` : "";
  return new MessagingError(
    "unreachable",
    `nothing was heard of ${describePartition(at)} for ${Math.round(forMs / 1000)} s${much}; connecting again`,
  );
}

/** Records are there, behind the beginning of a transaction that has not ended. */
export function transactionError(at: TopicPartition, forMs: number, behind: number): MessagingError {
  return new MessagingError(
    "timeout",
    `${describePartition(at)} holds ${behind} offsets that cannot be read for ${Math.round(forMs / 1000)} s, because a transaction of another producer is open; end or abort it`,
  );
}

/** The broker answers, and gives nothing for now. */
export function quotaError(at: TopicPartition, forMs: number): MessagingError {
  return new MessagingError(
    "timeout",
    `nothing was read of ${describePartition(at)} for ${Math.round(forMs / 1000)} s, because this process has used up its quota, and Kafka slows it down; raise consumer_byte_rate (or request_percentage) for its user or client id, or have it read less`,
  );
}

/** Commits do not come through. */
export function commitError(at: TopicPartition, group: string, failures: number): MessagingError {
  return new MessagingError(
    "unreachable",
    `${failures} commits of group "${group}" for ${describePartition(at)} failed in a row; what is settled stays unconfirmed until one comes through`,
  );
}

/** The committed metadata is in our form and cannot be read. */
export function metadataNotice(at: TopicPartition, group: string, offset: number): MessagingError {
  return new MessagingError(
    "invalid",
    `what group "${group}" committed beside offset ${offset} of ${describePartition(at)} cannot be read, perhaps because a newer version wrote it; what was finished behind that offset is handled again`,
  );
}

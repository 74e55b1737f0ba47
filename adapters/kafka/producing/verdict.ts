import { DECLARE_IT, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import { operationError } from "../errors.ts";
import type { ErrorName, TopicPartition } from "../port.ts";

/**
 * What an answer says of a batch.
 *
 * - `stored`: it is in the log, by this request or an earlier one.
 * - `doubtful`: it may or may not be; the same bytes must go again until an answer is clear.
 * - `missing`: the broker knows of no such partition, or by that name of another topic, and stored nothing.
 * - `unrecognised`: the broker does not go on with this producer identity; nothing was stored by this request.
 * - `divisible`: something in it was refused; nothing was stored.
 * - `refused`: it was refused as a whole; nothing was stored.
 */
export type Verdict = "stored" | "doubtful" | "missing" | "unrecognised" | "divisible" | "refused";

const VERDICTS: ReadonlyMap<string, Verdict> = new Map([
  ["DUPLICATE_SEQUENCE_NUMBER", "stored"],
  ["UNKNOWN_TOPIC_OR_PARTITION", "missing"],
  ["UNKNOWN_TOPIC_ID", "missing"],
  ["INCONSISTENT_TOPIC_ID", "missing"],
  ["OUT_OF_ORDER_SEQUENCE_NUMBER", "unrecognised"],
  ["UNKNOWN_PRODUCER_ID", "unrecognised"],
  ["INVALID_PRODUCER_EPOCH", "unrecognised"],
  ["INVALID_PRODUCER_ID_MAPPING", "unrecognised"],
  ["PRODUCER_FENCED", "unrecognised"],
  ["MESSAGE_TOO_LARGE", "divisible"],
  ["RECORD_LIST_TOO_LARGE", "divisible"],
  ["INVALID_RECORD", "divisible"],
  ["INVALID_TIMESTAMP", "divisible"],
  ["TOPIC_AUTHORIZATION_FAILED", "refused"],
  ["CLUSTER_AUTHORIZATION_FAILED", "refused"],
  ["INVALID_TOPIC_EXCEPTION", "refused"],
  ["UNSUPPORTED_COMPRESSION_TYPE", "refused"],
  ["UNSUPPORTED_FOR_MESSAGE_FORMAT", "refused"],
  ["POLICY_VIOLATION", "refused"],
]);

const REFUSALS: ReadonlyMap<string, readonly [code: MessagingErrorCode, what: string]> = new Map([
  [
    "MESSAGE_TOO_LARGE",
    ["too-large", "it is over the topic's max.message.bytes; send a reference to the data instead"],
  ],
  [
    "RECORD_LIST_TOO_LARGE",
    ["too-large", "it is over the topic's segment.bytes; send a reference to the data instead"],
  ],
  ["INVALID_RECORD", ["refused", "the topic takes no such record; a compacted one needs a key on each"]],
  ["INVALID_TIMESTAMP", ["refused", "its time is too far from the broker's; set this machine's clock"]],
  ["UNSUPPORTED_COMPRESSION_TYPE", ["unsupported", "it does not take this compression; choose another"]],
  [
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    ["unsupported", "the topic keeps an old format; raise its message.format.version"],
  ],
]);

/** Sorts the protocol's errors; those that nobody here knows leave it in doubt. */
export function verdictOf(error: ErrorName): Verdict {
  return error === undefined ? "stored" : (VERDICTS.get(error) ?? "doubtful");
}

/** Whether a smaller batch may be taken. */
export function isOfSize(error: ErrorName): boolean {
  return error === "MESSAGE_TOO_LARGE" || error === "RECORD_LIST_TOO_LARGE";
}

/** Why records were refused, for whoever sent them. */
export function refusal(error: string, { topic, partition }: TopicPartition): MessagingError {
  const where = `topic "${topic}", partition ${partition}`;
  if (error === "INVALID_TOPIC_EXCEPTION") return topicRefusal(error, topic);
  const known = REFUSALS.get(error);
  if (known === undefined) return operationError(error, `write to ${where}`, "look at the brokers' logs");
  return new MessagingError(known[0], `Kafka refused a message for ${where} (${error}): ${known[1]}`);
}

/** Why it is not known what became of a batch. */
export function doubt(error: string, { topic, partition }: TopicPartition): MessagingError {
  return operationError(error, `write to topic "${topic}", partition ${partition}`, "it is tried again");
}

/** Why nothing can be written to a topic at all. */
export function topicRefusal(error: string, topic: string): MessagingError {
  if (error !== "INVALID_TOPIC_EXCEPTION") return operationError(error, `write to topic "${topic}"`, "try again");
  return new MessagingError("invalid", `Kafka takes no topic of the name "${topic}" (${error}); choose another`);
}

export function missingTopic(topic: string): MessagingError {
  return new MessagingError("not-found", `there is no topic "${topic}" on Kafka; ${DECLARE_IT}`);
}

/** A topic that was written to is another one. */
export function replacedTopic(topic: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again: what was sent to it before is gone with the old one, also what was confirmed while that was being deleted; find out who deleted it`,
  );
}

export function missingPartition(topic: string): MessagingError {
  return new MessagingError(
    "not-found",
    `topic "${topic}" on Kafka has fewer partitions than are written to; declare it anew with as many`,
  );
}

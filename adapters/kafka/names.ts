import {
  type Address,
  addressName,
  describeAddress,
  type QueueAddress,
  type Source,
  type SubscriptionAddress,
  type TopicAddress,
} from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";

/** What can be sent to with a delay. */
export type DelayableAddress = QueueAddress | SubscriptionAddress | TopicAddress;

/** Kafka's limit. */
const MAX_NAME = 249;
const QUEUE_ENDING = ".queue";
const DELAYS_ENDING = ".delays";
const QUARANTINE_ENDING = ".quarantine";
/** Endings of what is derived from a destination; a destination's own name must have none. */
const DERIVED_ENDINGS = [".dlq", QUARANTINE_ENDING, DELAYS_ENDING];

/**
 * The Kafka topic that stands for an address: `orders.queue`, `order.placed`, `order.placed..billing` (what belongs to
 * subscription `billing` of topic `order.placed` alone), and of either work its dead letters `orders.dlq`,
 * `order.placed..billing.dlq` and its quarantine log `orders.queue.quarantine`, `order.placed..billing.quarantine`. A queue
 * has an ending of its own, since queues and topics are both Kafka topics, and what is handled on a queue is deleted.
 */
export function topicName(address: Address): string {
  if (address.kind === "quarantine") return topicName(address.of) + QUARANTINE_ENDING;
  return address.kind === "queue" ? address.name + QUEUE_ENDING : addressName(address);
}

/** The topic in which messages for an address wait for their time. */
export function delaysTopic(address: DelayableAddress): string {
  return topicName(address) + DELAYS_ENDING;
}

/** The consumer group of a source. */
export function groupName(source: Source): string {
  return topicName(source);
}

/** The consumer group of those who send delayed messages on. */
export function delaysGroup(address: DelayableAddress): string {
  return delaysTopic(address);
}

/** The topics that a source is read from. */
export function topicsOf(source: Source): readonly string[] {
  return source.kind === "subscription" ? [source.topic, topicName(source)] : [topicName(source)];
}

/**
 * The physical name, as in `topic order.placed`. Throws `invalid` for a name that is kept for queues or for what is derived
 * from destinations, or longer than Kafka's 249 characters.
 */
export function physicalName(address: Address): string {
  const name = topicName(address);
  const base = addressName(address.kind === "dead-letters" || address.kind === "quarantine" ? address.of : address);
  const endings = address.kind === "topic" ? [...DERIVED_ENDINGS, QUEUE_ENDING] : DERIVED_ENDINGS;
  const reserved = endings.find((ending) => base.endsWith(ending));
  if (reserved !== undefined) {
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} cannot be on Kafka: it would be the topic "${name}", and the ending "${reserved}" is anybroker's own; choose another name`,
    );
  }
  if (name.length > MAX_NAME) {
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} cannot be on Kafka: "${name}" is over ${MAX_NAME} characters; choose a shorter name`,
    );
  }
  return `topic ${name}`;
}

/** Equal for two names that cannot both be topics: in the names of metrics Kafka takes `.` for `_`. */
export function collisionName(topic: string): string {
  return topic.replaceAll(".", "_");
}

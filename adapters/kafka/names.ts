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
import type { TopicPartition } from "./port.ts";

/** Addresses that accept delayed messages. */
export type DelayableAddress = QueueAddress | SubscriptionAddress | TopicAddress;

/** Kafka's limit. */
const MAX_NAME = 249;
const QUEUE_ENDING = ".queue";
const DELAYS_ENDING = ".delays";
const QUARANTINE_ENDING = ".quarantine";
/** The endings of derived topics; destinations may not have them. */
const DERIVED_ENDINGS = [".dlq", QUARANTINE_ENDING, DELAYS_ENDING];

/**
 * The Kafka topic of an address.
 *
 * - Queue: `orders.queue`. The ending keeps queues apart from topics, since handled records of a queue are deleted.
 * - Topic: `order.placed`.
 * - Subscription: `order.placed..billing`, for what belongs to subscription `billing` alone.
 * - Dead letters: `orders.dlq`, `order.placed..billing.dlq`.
 * - Quarantine log: `orders.queue.quarantine`, `order.placed..billing.quarantine`.
 */
export function topicName(address: Address): string {
  if (address.kind === "quarantine") return topicName(address.of) + QUARANTINE_ENDING;
  return address.kind === "queue" ? address.name + QUEUE_ENDING : addressName(address);
}

/** The topic of an address's delayed messages. */
export function delaysTopic(address: DelayableAddress): string {
  return topicName(address) + DELAYS_ENDING;
}

/** The consumer group of a source. */
export function groupName(source: Source): string {
  return topicName(source);
}

/** The consumer group of an address's delay forwarders. */
export function delaysGroup(address: DelayableAddress): string {
  return delaysTopic(address);
}

/** The topics that a source is read from. */
export function topicsOf(source: Source): readonly string[] {
  return source.kind === "subscription" ? [source.topic, topicName(source)] : [topicName(source)];
}

/**
 * The physical name, such as `topic order.placed`. Throws `invalid` for reserved names and names over 249 characters.
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

/** Equal for two names that cannot both exist: Kafka's metrics replace `.` by `_`. */
export function collisionName(topic: string): string {
  return topic.replaceAll(".", "_");
}

/** The key of a partition in maps and sets. Topic names contain no slash. */
export function partitionKey({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

import { createHash } from "node:crypto";
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
import type { ClusterMetadata, ErrorName, KafkaConnection, TopicId, TopicMetadata, TopicPartition } from "./port.ts";

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

/** Where records are. */
export interface RecordPlace extends TopicPartition {
  /** The id of the topic; undefined or empty where it is not known. */
  readonly topicId?: TopicId | undefined;
}

/** The id of a record that has none: its place. The topic's id distinguishes it from a record of a recreated topic. */
export function recordId({ topic, partition, topicId = "" }: RecordPlace, offset: number): string {
  const place = `${topic}-${partition}-${offset}`;
  return topicId === "" ? place : `${place}-${topicId}`;
}

/** Identifies a topic beyond its name. Offsets belong to one topic and mean nothing in another. */
export interface TopicIdentity {
  readonly id: TopicId;
  /** A hash of cluster and name: a recreated topic has the same, a mirrored copy has another. */
  readonly place: string;
}

const PLACE_BYTES = 9;

/** The identity of a topic in cluster metadata. */
export function identityOf(
  { clusterId }: Pick<ClusterMetadata, "clusterId">,
  { topic, id }: Pick<TopicMetadata, "topic" | "id">,
): TopicIdentity {
  const hash = createHash("sha256").update(`${clusterId}\n${topic}`).digest();
  return { id, place: hash.subarray(0, PLACE_BYTES).toString("base64url") };
}

/** A topic without an id is not used. */
export function withoutId(topic: string): MessagingError {
  return new MessagingError(
    "unsupported",
    `topic "${topic}" on Kafka has no id, which would distinguish it from a recreated topic of its name: raise the brokers' inter.broker.protocol.version to 2.8 or later`,
  );
}

/** A topic was replaced during a request about it. */
export function replacedMeanwhile(topic: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again meanwhile; try again with the new one`,
  );
}

/** Beyond every log: a node that has the topic answers out of range, and sends no records. */
const BEYOND = Number.MAX_SAFE_INTEGER;

/**
 * Proves that a node has the logs of the topics with these ids: an error or undefined for each, in order. Requests by
 * name right after it concern these topics, not others of the same name.
 */
export async function proveTopics(
  connection: Pick<KafkaConnection, "fetch">,
  node: number,
  wanted: readonly (TopicPartition & { readonly topicId: TopicId })[],
): Promise<readonly ErrorName[]> {
  if (wanted.length === 0) return [];
  const partitions = wanted.map(({ topic, topicId, partition }) => {
    return { topic, topicId, partition, offset: BEYOND, maxBytes: 1 };
  });
  const fetched = await connection.fetch(node, { maxWaitMs: 0, minBytes: 0, maxBytes: 1, partitions });
  return wanted.map(({ topic, partition }) => {
    const answer = fetched.find((one) => one.topic === topic && one.partition === partition);
    return answer?.error === "OFFSET_OUT_OF_RANGE" ? undefined : (answer?.error ?? "REQUEST_TIMED_OUT");
  });
}

import { createHash } from "node:crypto";
import { MessagingError } from "../../core/errors.ts";
import type { ClusterMetadata, ErrorName, KafkaConnection, TopicId, TopicMetadata, TopicPartition } from "./port.ts";

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
    `topic "${topic}" on Kafka has no id, by which it could be told from another of its name: raise the brokers' inter.broker.protocol.version to 2.8 or later`,
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

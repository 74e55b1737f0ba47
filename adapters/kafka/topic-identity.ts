import { createHash } from "node:crypto";
import { MessagingError } from "../../core/errors.ts";
import type { ClusterMetadata, ErrorName, KafkaConnection, TopicId, TopicMetadata, TopicPartition } from "./port.ts";

/** Which topic it is that has a name: positions belong to one, and mean nothing in another. */
export interface TopicIdentity {
  readonly id: TopicId;
  /** Of the name in its cluster: the same for a topic that was made again, another for a copy that a mirror keeps. */
  readonly place: string;
}

const PLACE_BYTES = 9;

/** The identity of a topic that a cluster told about. */
export function identityOf(
  { clusterId }: Pick<ClusterMetadata, "clusterId">,
  { topic, id }: Pick<TopicMetadata, "topic" | "id">,
): TopicIdentity {
  const hash = createHash("sha256").update(`${clusterId}\n${topic}`).digest();
  return { id, place: hash.subarray(0, PLACE_BYTES).toString("base64url") };
}

/** Why a topic without an id is not used. */
export function withoutId(topic: string): MessagingError {
  return new MessagingError(
    "unsupported",
    `topic "${topic}" on Kafka has no id, by which it could be told from another of its name: raise the brokers' inter.broker.protocol.version to 2.8 or later`,
  );
}

/** A topic was replaced while something was asked about it. */
export function replacedMeanwhile(topic: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again meanwhile; try again with the new one`,
  );
}

/** Beyond every log: a node that has the log of the topic says so, and sends nothing of it. */
const BEYOND = Number.MAX_SAFE_INTEGER;

/**
 * Whether a node has the logs of these very topics: an error or none for each, in order. What is asked by name right after
 * that is answered for them, and not for another topic whose name they have, or had.
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

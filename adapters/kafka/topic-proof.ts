import type { ErrorName, KafkaConnection, TopicId, TopicPartition } from "./port.ts";

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

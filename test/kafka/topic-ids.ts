import { createHash } from "node:crypto";
import { identityOf, type TopicIdentity } from "../../adapters/kafka/names.ts";
import type { TopicId } from "../../adapters/kafka/port.ts";

export const CLUSTER_ID = "cluster";

/** The id of a topic that has such a name: the first of that name, the second, and so on. */
export function topicId(topic: string, life = 1): TopicId {
  return createHash("sha256").update(`${topic} ${life}`).digest().subarray(0, 16).toString("base64url");
}

/** The identity of a topic in the cluster {@link CLUSTER_ID}, or another. */
export function identity(topic: string, life = 1, clusterId = CLUSTER_ID): TopicIdentity {
  return identityOf({ clusterId }, { topic, id: topicId(topic, life) });
}

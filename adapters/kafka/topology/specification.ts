import { QUARANTINE_KEPT_MS } from "../../../core/adapter.ts";
import { DEAD_LETTERS_CONFIGURATION } from "../dead-letters/index.ts";
import { mostBatchBytes, type Settings } from "../options.ts";
import type { TopicSpecification } from "../port.ts";
import type { PlannedTopic, TopicRole } from "./plan.ts";

type SpecificationSettings = Pick<
  Settings,
  "replicationFactor" | "retentionMs" | "topicConfiguration" | "maxMessageBytes"
>;

const USUAL_REPLICAS = 3;
/** From this many replicas on, one may be away and two still have what is confirmed. */
export const REPLICAS_FOR_TWO = 3;
/** What Kafka takes unless told otherwise; never made less. */
const USUAL_BATCH_BYTES = 1_048_588;
/** The least that Kafka 4 allows for a segment. What is too old is deleted by segments; less than one more is read through. */
const QUARANTINE_SEGMENT_BYTES = 1024 * 1024;
/** For the headers that a record of another sender gets on its way into a derived topic, however large it is. */
const HEADROOM_BYTES = 64 * 1024;

/** How a missing topic is made. */
export function specificationOf(
  { name, role, partitions, derived }: PlannedTopic,
  brokers: number,
  settings: SpecificationSettings,
): TopicSpecification {
  const replicationFactor = settings.replicationFactor ?? Math.max(1, Math.min(USUAL_REPLICAS, brokers));
  const batchBytes = Math.max(mostBatchBytes(settings), USUAL_BATCH_BYTES) + (derived ? HEADROOM_BYTES : 0);
  const mostBytes = role === "quarantine" ? QUARANTINE_SEGMENT_BYTES : batchBytes;
  return {
    topic: name,
    partitions,
    replicationFactor,
    configuration: {
      // One clock for all senders, for retention and for starts at a time; and nobody's wrong clock is refused.
      "message.timestamp.type": "LogAppendTime",
      ...settings.topicConfiguration,
      ...keeping(role, settings.retentionMs),
      "max.message.bytes": String(mostBytes),
      // Said in any case: a default of two would let nobody write to a single replica.
      "min.insync.replicas": replicationFactor >= REPLICAS_FOR_TWO ? "2" : "1",
    },
  };
}

function keeping(role: TopicRole, retentionMs: number): Readonly<Record<string, string>> {
  switch (role) {
    case "events":
      return { "cleanup.policy": "delete", "retention.ms": String(retentionMs) };
    case "work":
      // Kafka cannot tell what was handled; what was is deleted by offset.
      return { "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1" };
    case "entries":
      return DEAD_LETTERS_CONFIGURATION;
    case "quarantine":
      return {
        "cleanup.policy": "delete",
        "retention.ms": String(QUARANTINE_KEPT_MS),
        "retention.bytes": "-1",
        "segment.bytes": String(QUARANTINE_SEGMENT_BYTES),
        // By a sender's wrong clock a record would be too old at once.
        "message.timestamp.type": "LogAppendTime",
      };
  }
}

import type { Capabilities } from "../../core/capabilities.ts";

/** SQS's limit on a message, body and attributes together; also what a queue declared here takes. */
export const MOST_QUEUE_BYTES = 1_048_576;
/** SNS's limit on an event, and on a batch of them. */
export const MOST_TOPIC_BYTES = 262_144;
/** What is left to the names of attributes and the engine's own headers. */
const RESERVE_BYTES = 16 * 1024;
const LONGEST_DELAY_MS = 900_000;

export const CAPABILITIES: Capabilities = Object.freeze<Capabilities>({
  order: { support: "native", note: "FIFO queues and topics, a message group per key" },
  delay: {
    support: "native",
    note: "in whole seconds, rounded up; over 15 minutes in several hops, and events by their subscriptions",
    maxMs: LONGEST_DELAY_MS,
  },
  priority: { support: "unsupported", note: "SQS has none; use a queue for each priority", levels: 1 },
  ttl: { support: "emulated", note: "looked at before each delivery" },
  replay: {
    support: "unsupported",
    note: "a queue holds what no consumer has settled; keep events elsewhere, such as on Kafka",
  },
  fanOut: { support: "native", note: "an SNS topic, and an SQS queue for each subscription" },
  routingFilter: {
    support: "native",
    note: "SNS filter policies up to the first wildcard, and the rest while reading",
  },
  lease: { support: "native", note: "the visibility timeout, extended while a message is held, for 12 hours at most" },
  deduplication: {
    support: "unsupported",
    note: "only ordered destinations drop a second message of one id, within 5 minutes; make the consumer idempotent instead",
  },
  transactions: {
    support: "unsupported",
    note: "sending and settling are two steps; make the consumer idempotent instead",
  },
  durable: { support: "native", note: "for 14 days at most, in which a message must be handled" },
  maxMessageBytes: MOST_QUEUE_BYTES - 2 * RESERVE_BYTES,
  maxHeaders: 64,
  maxHeaderBytes: RESERVE_BYTES,
});

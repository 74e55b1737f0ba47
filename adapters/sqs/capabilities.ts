import type { Capabilities } from "../../core/capabilities.ts";

/** SQS's limit on a message with its attributes, and the MaximumMessageSize of declared queues. */
export const MAX_QUEUE_BYTES = 1_048_576;
/** SNS's limit on an event, and on a batch of events. */
export const MAX_TOPIC_BYTES = 262_144;
/** The most bytes of a caller's headers. As JSON in an attribute they may take twice as many. */
const HEADER_BYTES = 16 * 1024;
/** Reserved for headers, names of attributes, and the engine's headers on a dead letter. */
const RESERVE_BYTES = 2 * HEADER_BYTES + 16 * 1024;
const MAX_DELAY_MS = 900_000;

export const CAPABILITIES: Capabilities = Object.freeze<Capabilities>({
  order: { support: "native", note: "FIFO queues and topics, a message group per key" },
  delay: {
    support: "native",
    note: "in whole seconds, rounded up; over 15 minutes in several hops, and events by their subscriptions",
    maxMs: MAX_DELAY_MS,
  },
  priority: { support: "unsupported", note: "SQS has none; use a queue for each priority", levels: 1 },
  ttl: { support: "emulated", note: "checked before each delivery" },
  rewind: {
    support: "unsupported",
    note: "a queue keeps unsettled messages only; store events elsewhere, such as on Kafka",
  },
  fanOut: {
    support: "native",
    note: "an SNS topic, and an SQS queue for each subscription; events have at most 256 KiB",
  },
  routingFilter: {
    support: "native",
    note: "an SNS filter policy up to the first wildcard; the consumer applies the rest",
  },
  lease: {
    support: "native",
    note: "the visibility timeout, extended while a message is in flight, for at most 12 hours",
  },
  deduplication: {
    support: "unsupported",
    note: "only ordered destinations drop a second message with the same id, within 5 minutes; make the consumer idempotent instead",
  },
  transactions: {
    support: "unsupported",
    note: "sending and settling are two steps; make the consumer idempotent instead",
  },
  durable: { support: "native", note: "for at most 14 days, in which a message must be handled" },
  // A queue's limit; events have a lower one. Other bodies than text become base64, four characters for three bytes.
  maxMessageBytes: Math.floor(((MAX_QUEUE_BYTES - RESERVE_BYTES) * 3) / 4),
  maxHeaders: 64,
  maxHeaderBytes: HEADER_BYTES,
});

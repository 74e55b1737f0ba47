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
    note: "whole seconds, rounded up; 15 minutes per hop; events are delayed by their subscriptions",
    maxMs: MAX_DELAY_MS,
  },
  priority: { support: "unsupported", note: "SQS has none; use one queue per priority", levels: 1 },
  ttl: { support: "emulated", note: "checked before each delivery" },
  rewind: {
    support: "unsupported",
    note: "a queue does not keep handled messages; use a log such as Kafka",
  },
  fanOut: {
    support: "native",
    note: "an SNS topic, and an SQS queue per subscription; 256 KiB per event",
  },
  routingFilter: {
    support: "native",
    note: "SNS filter policies up to the first wildcard; consumers check the rest",
  },
  lease: { support: "native", note: "the visibility timeout, 12 hours at most" },
  deduplication: {
    support: "unsupported",
    note: "only on ordered destinations, within 5 minutes; make the consumer idempotent",
  },
  transactions: {
    support: "unsupported",
    note: "sending and settling are two steps; make the consumer idempotent",
  },
  durable: { support: "native", note: "14 days at most" },
  // For a queue, and for any bytes: bodies that are not text become base64, four characters for three bytes. Events have less.
  maxMessageBytes: Math.floor(((MAX_QUEUE_BYTES - RESERVE_BYTES) * 3) / 4),
  maxHeaders: 64,
  maxHeaderBytes: HEADER_BYTES,
});

import type { Capabilities } from "../../core/capabilities.ts";

/** SQS's limit on a message, body and attributes together; also what a queue declared here takes. */
export const MOST_QUEUE_BYTES = 1_048_576;
/** SNS's limit on an event, and on a batch of them. */
export const MOST_TOPIC_BYTES = 262_144;
/** The most bytes of a caller's headers. Written as JSON within an attribute they may take twice as many. */
const HEADER_BYTES = 16 * 1024;
/** What a body leaves to the headers, to the names of attributes, and to the engine's own headers on a dead letter. */
const RESERVE_BYTES = 2 * HEADER_BYTES + 16 * 1024;
const LONGEST_DELAY_MS = 900_000;

export const CAPABILITIES: Capabilities = Object.freeze<Capabilities>({
  order: { support: "native", note: "FIFO queues and topics, a message group per key" },
  delay: {
    support: "native",
    note: "whole seconds, rounded up; 15 minutes per hop; events are delayed by their subscriptions",
    maxMs: LONGEST_DELAY_MS,
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
  // For a queue, and for any bytes: those that are no text travel as base64, four characters for three. Events have less.
  maxMessageBytes: Math.floor(((MOST_QUEUE_BYTES - RESERVE_BYTES) * 3) / 4),
  maxHeaders: 64,
  maxHeaderBytes: HEADER_BYTES,
});

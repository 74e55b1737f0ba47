import type { Capabilities } from "../../core/capabilities.ts";
import { MAX_DELAY_MS } from "./delay-levels.ts";

/** The limit of RabbitMQ and amqplib on one message. Operators may set a lower one; larger messages are `too-large`. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** amqplib encodes all headers into 64 KiB. Half of that is reserved for the engine's own headers. */
const MAX_HEADER_BYTES = 32 * 1024;
const MAX_HEADERS = 64;
/** RabbitMQ has 0 to 31. A message without a priority counts as 4: that is our 0. Only foreign messages have less. */
const MAX_PRIORITIES = 28;

export const CAPABILITIES: Capabilities = Object.freeze<Capabilities>({
  order: { support: "native", note: "single active consumer" },
  delay: {
    support: "native",
    note: "wait queues of the broker, rounded up to 32 ms",
    maxMs: MAX_DELAY_MS,
  },
  priority: {
    support: "native",
    note: "28 levels, strict, from RabbitMQ 4.3; refused on older servers",
    levels: MAX_PRIORITIES,
  },
  ttl: { support: "native", note: "the broker dead-letters expired messages; up to 49 days" },
  rewind: {
    support: "unsupported",
    note: "a queue does not keep handled messages; declare the subscription earlier, or use a log such as Kafka",
  },
  fanOut: { support: "native", note: "an exchange, and a queue per subscription" },
  routingFilter: { support: "native", note: "topic exchange bindings" },
  lease: {
    support: "unsupported",
    note: "a delivery lasts as long as its connection; before RabbitMQ 4.3 for 30 minutes, unless the server is configured otherwise",
  },
  deduplication: { support: "unsupported", note: "every message is kept; make the consumer idempotent" },
  transactions: {
    support: "unsupported",
    note: "sending and settling are two steps; make the consumer idempotent",
  },
  durable: { support: "native", note: "quorum queues, persistent messages, publisher confirms" },
  maxMessageBytes: MAX_MESSAGE_BYTES,
  maxHeaders: MAX_HEADERS,
  maxHeaderBytes: MAX_HEADER_BYTES,
});

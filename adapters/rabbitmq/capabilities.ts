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
  order: { support: "native", note: "single active consumer; order per key over all consumers" },
  delay: {
    support: "native",
    note: "any delay, rounded up to 32 ms; RabbitMQ moves messages through wait queues",
    maxMs: MAX_DELAY_MS,
  },
  priority: {
    support: "native",
    note: "RabbitMQ 4.3 or later: 28 strict priorities; refused when declared on an older server",
    levels: MAX_PRIORITIES,
  },
  ttl: { support: "native", note: "RabbitMQ moves expired messages to the dead letters; up to 49 days" },
  rewind: {
    support: "unsupported",
    note: "a queue keeps unsettled messages only; store events elsewhere, or declare the subscription earlier",
  },
  fanOut: { support: "native", note: "a queue per subscription, bound to the topic's exchange" },
  routingFilter: { support: "native", note: "topic exchange bindings" },
  lease: {
    support: "unsupported",
    note: "a consumer keeps a delivery while its connection lives; before RabbitMQ 4.3 for 30 minutes, unless consumer_timeout says otherwise",
  },
  deduplication: { support: "unsupported", note: "every message sent is kept; make the consumer idempotent instead" },
  transactions: {
    support: "unsupported",
    note: "sending and settling are two steps; make the consumer idempotent instead",
  },
  durable: { support: "native", note: "quorum queues, persistent messages, publisher confirms" },
  maxMessageBytes: MAX_MESSAGE_BYTES,
  maxHeaders: MAX_HEADERS,
  maxHeaderBytes: MAX_HEADER_BYTES,
});

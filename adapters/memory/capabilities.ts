import type { Capabilities } from "../../core/index.ts";

export const PRIORITY_LEVELS = 32;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** The capabilities of one process. Deliveries have leases only if `leaseMs` is given. */
export function memoryCapabilities(leaseMs: number | undefined): Capabilities {
  return {
    order: { support: "native", note: "by key, within the one process that holds the messages" },
    delay: { support: "native", note: "a timer, up to 24 days in one hop", maxMs: 24 * 24 * 60 * 60 * 1000 },
    priority: { support: "native", note: `${PRIORITY_LEVELS} levels, strict`, levels: PRIORITY_LEVELS },
    ttl: { support: "native", note: "checked before each delivery" },
    rewind: {
      support: "unsupported",
      note: "handled messages are not kept; use a broker that keeps a log, such as Kafka",
    },
    fanOut: { support: "native", note: "a copy for each subscription" },
    routingFilter: { support: "native", note: "matched when publishing" },
    lease:
      leaseMs === undefined
        ? { support: "unsupported", note: "off by default; set memory({ leaseMs })" }
        : { support: "native", note: `${leaseMs} ms, as set by leaseMs` },
    deduplication: { support: "unsupported", note: "every message sent is kept; make the consumer idempotent instead" },
    transactions: {
      support: "unsupported",
      note: "sending and settling are two steps; make the consumer idempotent instead",
    },
    durable: {
      support: "unsupported",
      note: "messages are lost when the process ends; use a broker such as RabbitMQ",
    },
    maxMessageBytes: MAX_MESSAGE_BYTES,
    maxHeaders: 128,
    maxHeaderBytes: 64 * 1024,
  };
}

import type { Capabilities } from "../../core/capabilities.ts";

export const PRIORITY_LEVELS = 32;
const LARGEST_MESSAGE = 16 * 1024 * 1024;

/** What one process can do. Leases exist where they are asked for. */
export function memoryCapabilities(leaseMs: number | undefined): Capabilities {
  return {
    order: { support: "native", note: "the per-key queues of the one process that holds the messages" },
    delay: { support: "native", note: "a timer, up to 24 days in one hop", maxMs: 24 * 24 * 60 * 60 * 1000 },
    priority: { support: "native", note: `${PRIORITY_LEVELS} levels, strict`, levels: PRIORITY_LEVELS },
    ttl: { support: "native", note: "looked at before each delivery" },
    rewind: {
      support: "unsupported",
      note: "handled messages are not kept; use a broker that keeps a log, such as Kafka",
    },
    fanOut: { support: "native", note: "a copy for each subscription" },
    routingFilter: { support: "native", note: "matched when publishing" },
    lease:
      leaseMs === undefined
        ? { support: "unsupported", note: "not asked for; give memory({ leaseMs })" }
        : { support: "native", note: `${leaseMs} ms, as asked for` },
    deduplication: { support: "unsupported", note: "every message sent is kept; make the consumer idempotent instead" },
    transactions: {
      support: "unsupported",
      note: "sending and settling are two steps; make the consumer idempotent instead",
    },
    durable: {
      support: "unsupported",
      note: "messages are gone when the process ends; use a broker of its own, such as RabbitMQ",
    },
    maxMessageBytes: LARGEST_MESSAGE,
    maxHeaders: 128,
    maxHeaderBytes: 64 * 1024,
  };
}

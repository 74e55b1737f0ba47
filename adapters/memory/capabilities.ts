import type { Capabilities } from "../../core/capabilities.ts";

export const PRIORITY_LEVELS = 32;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** The capabilities of one process. Deliveries have leases only if `leaseMs` is given. */
export function memoryCapabilities(leaseMs: number | undefined): Capabilities {
  return {
    order: { support: "native", note: "per-key queues in the process" },
    delay: { support: "native", note: "a timer, up to 24 days per hop", maxMs: 24 * 24 * 60 * 60 * 1000 },
    priority: { support: "native", note: `${PRIORITY_LEVELS} levels, strict`, levels: PRIORITY_LEVELS },
    ttl: { support: "native", note: "checked before each delivery" },
    rewind: {
      support: "unsupported",
      note: "handled messages are not kept; use a broker that keeps a log, such as Kafka",
    },
    fanOut: { support: "native", note: "a copy per subscription" },
    routingFilter: { support: "native", note: "matched when an event is published" },
    lease:
      leaseMs === undefined
        ? { support: "unsupported", note: "not configured; give memory({ leaseMs })" }
        : { support: "native", note: `${leaseMs} ms, as configured` },
    deduplication: { support: "unsupported", note: "every message is kept; make the consumer idempotent" },
    transactions: {
      support: "unsupported",
      note: "sending and settling are two steps; make the consumer idempotent",
    },
    durable: {
      support: "unsupported",
      note: "messages end with the process; use a broker such as RabbitMQ",
    },
    maxMessageBytes: MAX_MESSAGE_BYTES,
    maxHeaders: 128,
    maxHeaderBytes: 64 * 1024,
  };
}

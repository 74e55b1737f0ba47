import type { Capabilities } from "../../core/capabilities.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import type { Settings } from "./options.ts";

/** For user headers, in addition to the engine's. Kafka has no limit, but readers need one. */
const MAX_HEADERS = 64;
const MAX_HEADER_BYTES = 32 * 1024;

/** The capabilities of Kafka, with the limits of one adapter. */
export function capabilitiesOf({ maxMessageBytes }: Pick<Settings, "maxMessageBytes">): Capabilities {
  return Object.freeze<Capabilities>({
    order: { support: "native", note: "one partition per key, one consumer per partition" },
    delay: {
      support: "emulated",
      note: "topics of delayed messages, which consumers forward when they are due",
      maxMs: LONGEST_MS,
    },
    priority: { support: "unsupported", note: "a log is read in order; use one queue per priority", levels: 1 },
    ttl: { support: "emulated", note: "checked before each delivery" },
    rewind: { support: "native", note: "from the earliest event, a time or offsets; rewind moves a subscription" },
    fanOut: { support: "native", note: "a consumer group per subscription" },
    routingFilter: { support: "emulated", note: "consumers read every event and skip those that do not match" },
    lease: { support: "unsupported", note: "a delivery lasts as long as the group membership" },
    deduplication: {
      support: "unsupported",
      note: "only retries of one send are dropped; make the consumer idempotent",
    },
    transactions: {
      support: "unsupported",
      note: "sending and settling are two steps; make the consumer idempotent",
    },
    durable: { support: "native", note: "acks=all; two of three replicas have a confirmed message" },
    maxMessageBytes,
    maxHeaders: MAX_HEADERS,
    maxHeaderBytes: MAX_HEADER_BYTES,
  });
}

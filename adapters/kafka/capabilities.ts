import type { Capabilities } from "../../core/capabilities.ts";
import { LONGEST_MS } from "../../core/checks.ts";
import type { Settings } from "./options.ts";

/** For user headers, in addition to the engine's. Kafka has no limit, but readers need one. */
const MAX_HEADERS = 64;
const MAX_HEADER_BYTES = 32 * 1024;

/** The capabilities of Kafka, with the limits of one adapter. */
export function capabilitiesOf({ maxMessageBytes }: Pick<Settings, "maxMessageBytes">): Capabilities {
  return Object.freeze<Capabilities>({
    order: { support: "native", note: "a key has one partition, and a partition one consumer" },
    delay: {
      support: "emulated",
      note: "topics of waiting messages by length of delay, sent on when due by the processes that consume",
      maxMs: LONGEST_MS,
    },
    priority: { support: "unsupported", note: "a log is read in order; use a queue per priority", levels: 1 },
    ttl: { support: "emulated", note: "looked at before delivery: what is too old goes to the dead letters" },
    rewind: { support: "native", note: "from the earliest event kept, a time or offsets; rewind moves a subscription" },
    fanOut: { support: "native", note: "a consumer group per subscription" },
    routingFilter: { support: "emulated", note: "every event is read, and passed over where it does not match" },
    lease: { support: "unsupported", note: "a delivery is the consumer's while it is a member of its group" },
    deduplication: {
      support: "unsupported",
      note: "the idempotent producer keeps one call from being stored twice; make the consumer idempotent for the rest",
    },
    transactions: {
      support: "unsupported",
      note: "sending and settling are two steps; make the consumer idempotent instead",
    },
    durable: { support: "native", note: "acks=all; of three replicas two have what is confirmed" },
    maxMessageBytes,
    maxHeaders: MAX_HEADERS,
    maxHeaderBytes: MAX_HEADER_BYTES,
  });
}

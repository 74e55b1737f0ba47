import { systemClock, systemRandom } from "../../../core/clock.ts";
import { checkCompression } from "../records/compression.ts";
import type { Producer } from "./contract.ts";
import { IdempotentProducer } from "./idempotent-producer.ts";
import { type ProducerOptions, RETRY } from "./settings.ts";

/** A producer and its life. */
export interface KafkaProducer extends Producer {
  /** Whether any broker answers, as far as is known. While none does, `send` reports every record `unknown` at once. */
  readonly isConnected: boolean;
  /** Prepares for sending. Rejects with `unreachable`, `timeout` or, if the login is refused, `unauthorized`. */
  open(): Promise<void>;
  /** Ends at once: whatever is under way is reported `unknown`. A second call does nothing. */
  close(): void;
}

/**
 * A producer over a connection; not open yet. Throws `unsupported` if nothing here can compress as asked.
 *
 * A record is reported `confirmed` when it is in the log, `rejected` when it is certain that it is not and will not be,
 * and `unknown` otherwise: tried for `deliveryTimeoutMs` without a clear answer. What was sent to a partition behind an
 * `unknown` record is `unknown` as well and not sent, so that sending it again keeps the order.
 */
export function createProducer(options: ProducerOptions): KafkaProducer {
  const settings = {
    compression: "none",
    requestTimeoutMs: 10_000,
    deliveryTimeoutMs: 30_000,
    maxBatchBytes: 1_000_000,
    refreshMs: 15_000,
    missingTopicGraceMs: 1_500,
    reconnect: RETRY,
    clock: systemClock(),
    random: systemRandom(),
    ...options,
  } as const;
  checkCompression(settings.compression);
  return new IdempotentProducer(settings);
}

import type { Clock, Random } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { BackoffTimes } from "../../../core/retry-policy.ts";
import type { KafkaConnection } from "../port.ts";
import type { Compression } from "../records/contract.ts";

/** Between tries at what brokers are asked to do. */
export const RETRY: BackoffTimes = Object.freeze({ firstMs: 50, maxMs: 1_000 });

/** What a producer works with. */
export interface ProducerOptions {
  /** Sockets of its own. Whoever made them closes them, after the producer. */
  readonly connection: KafkaConnection;
  readonly signals: ProducerSignals;
  /** Default `none`. */
  readonly compression?: Compression;
  /** Milliseconds that an answer may take, as the connection has it; replicas may take half of it. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** Milliseconds for which a batch is tried; a try under way is waited for. Default 30,000. */
  readonly deliveryTimeoutMs?: number;
  /** The most bytes of a batch before compression; a single larger record goes alone. Default 1,000,000. */
  readonly maxBatchBytes?: number;
  /** Milliseconds between looks at the cluster, also while nothing is sent. Default 15,000. */
  readonly refreshMs?: number;
  /** Milliseconds for which a topic may be unknown to the cluster, as right after its creation. Default 1,500. */
  readonly missingTopicGraceMs?: number;
  /** Milliseconds between looks at a cluster of which nobody answers. Default: 50, doubled up to 1,000. */
  readonly reconnect?: BackoffTimes;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** What a producer tells of the cluster. */
export interface ProducerSignals {
  /** A broker answers again. */
  up(): void;
  /** None does. */
  down(cause: MessagingError): void;
  /** Something that people should know: a topic that is another one. */
  notice(error: MessagingError): void;
}

/** The options with their defaults. */
export type ProducerSettings = Required<ProducerOptions>;

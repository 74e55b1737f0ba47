import type { MessagingError } from "./errors.ts";
import type { PauseOptions, QuarantineOptions, StopOptions } from "./options.ts";

/** Handles the messages of one queue or subscription. */
export interface Consumer {
  /**
   * Starts no more handlers and takes no more messages; what runs goes on; connection and membership are kept. What waits
   * in memory is kept too, unless `requeue` gives it back: do that when it lasts, since brokers take back what is held
   * too long. May be called again to give back.
   */
  pause(options?: PauseOptions): void;
  /** Goes on after {@link Consumer.pause}. */
  resume(): void;
  /** How many handlers run at once from now on, at most; more than that may still be finishing. */
  setConcurrency(count: number): void;
  /**
   * Stops taking messages, lets running handlers finish and settles them; past the deadline their signals are aborted
   * and their messages given back. A second call waits for the first. It does not start again with the broker.
   */
  stop(options?: StopOptions): Promise<void>;
  /** Calls `stop` with its default, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
  status(): ConsumerStatus;
}

/** Counts are since the consumer was made. */
export interface ConsumerStatus {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  readonly state: "new" | "running" | "paused" | "stalled" | "stopping" | "stopped";
  /** Why it is stalled: it cannot take messages, or some are parked. */
  readonly error: MessagingError | undefined;
  readonly concurrency: number;
  /** The most unsettled deliveries at present. */
  readonly prefetch: number;
  /** How long a delivery is ours unless it is renewed, in milliseconds; undefined where deliveries have no lease. */
  readonly leaseMs: number | undefined;
  /** Handlers running. */
  readonly running: number;
  /** Deliveries waiting in memory for a handler or, failed and in order, for their next attempt. */
  readonly waiting: number;
  /** Deliveries not yet settled: those above, those parked or quarantined, and those whose copy or settlement is under way. */
  readonly unsettled: number;
  /**
   * Deliveries whose dead letter nothing takes for now. They stay unsettled on the broker, and are tried again at long
   * intervals, after a reconnect, after `resume()`, and when another dead letter of the source is confirmed.
   */
  readonly parked: number;
  /**
   * Deliveries that were redelivered so often that it is looked for crashes of consumers before they start, which takes
   * {@link QuarantineOptions.silenceMs} where one is suspected. Others do not wait for them.
   */
  readonly quarantined: number;
  /** Handlers started. */
  readonly started: number;
  readonly succeeded: number;
  /** Failed attempts. */
  readonly failed: number;
  readonly retried: number;
  /** Times a handler returned `postpone()`. */
  readonly postponed: number;
  readonly deadLettered: number;
  /**
   * Events passed over because they do not match the filter of the subscription, where that is applied while reading:
   * all of it on Kafka, the part behind its first wildcard on SQS, which deletes them. Copies are never filtered.
   */
  readonly filtered: number;
  /** Deliveries given back without an attempt having failed. */
  readonly requeued: number;
  /** Settlements that came too late, twice, or after the delivery was lost: the message comes again or was handled. */
  readonly fenced: number;
  /** Handlers that overran their deadline, ignored their signal and are still running. */
  readonly abandoned: number;
}

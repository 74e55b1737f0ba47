import type { MessagingError } from "./errors.ts";
import type { PauseOptions, QuarantineOptions, StopOptions } from "./options.ts";

/** Handles the messages of one queue or subscription. */
export interface Consumer {
  /**
   * Starts no more handlers and takes no more messages. Running handlers go on, and the connection stays. Buffered
   * messages stay in memory unless `requeue` is true. For long pauses, requeue them: brokers redeliver messages that are
   * held too long and count a crash. A second call may requeue too.
   */
  pause(options?: PauseOptions): void;
  /** Ends a {@link Consumer.pause}, and tries parked messages again. */
  resume(): void;
  /** Sets the most handlers that run at once. After a lower value, more may still be finishing. */
  setConcurrency(count: number): void;
  /**
   * Stops taking messages, lets running handlers finish and settles their messages. At the deadline it aborts their
   * signals and requeues their messages. A second call waits for the first. `Broker.start` does not start it again.
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
  /** Why it is stalled: it cannot take messages, or some messages are parked. */
  readonly error: MessagingError | undefined;
  readonly concurrency: number;
  /** The most unsettled deliveries now. */
  readonly prefetch: number;
  /** The lease of a delivery in milliseconds, which the engine renews; undefined where deliveries have no lease. */
  readonly leaseMs: number | undefined;
  /** Handlers that run now. */
  readonly running: number;
  /** Deliveries in memory that wait for a handler, or for a blocking retry. */
  readonly waiting: number;
  /** All unsettled deliveries: running, waiting, parked, quarantined, being copied or being settled. */
  readonly unsettled: number;
  /**
   * Deliveries whose dead letter nothing takes for now. They stay unsettled on the broker. They are tried again at long
   * intervals, after a reconnect, after `resume()`, and after another dead letter of the source is confirmed.
   */
  readonly parked: number;
  /**
   * Deliveries that were redelivered so often that the engine first looks for crashes of consumers. A suspected crash
   * takes {@link QuarantineOptions.silenceMs}. Other deliveries do not wait for them.
   */
  readonly quarantined: number;
  /** Started handlers. */
  readonly started: number;
  readonly succeeded: number;
  /** Failed attempts. */
  readonly failed: number;
  readonly retried: number;
  /** Times a handler returned `postpone()`. */
  readonly postponed: number;
  readonly deadLettered: number;
  /**
   * Events skipped by the subscription's filter, where it is applied while reading: on Kafka the whole filter, on SQS,
   * which deletes them, the part behind the first wildcard. Copies are never filtered.
   */
  readonly filtered: number;
  /** Deliveries requeued without a failed attempt. */
  readonly requeued: number;
  /** Settlements that came too late: the delivery was lost, and the message comes again or was handled elsewhere. */
  readonly fenced: number;
  /** Handlers that overran their deadline, ignored their signal, and still run. */
  readonly abandoned: number;
}

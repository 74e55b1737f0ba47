import type { Depth, StartPosition } from "./adapter.ts";
import type { Handler } from "./delivery.ts";
import type { Queue, Topic } from "./destination.ts";
import type { MessagingError } from "./errors.ts";
import type {
  ConsumeOptions,
  PauseOptions,
  PublishOptions,
  QuarantineOptions,
  SendOptions,
  StartOptions,
  StopOptions,
  SubscribeOptions,
} from "./options.ts";

/** The result of a confirmed send. */
export interface Receipt {
  /** The message's id. */
  readonly id: string;
}

/** One message of a `sendMany` or `publishMany`: a body, and options for this message alone. */
export interface BatchEntry<Body, Options> {
  readonly body: Body;
  readonly options?: Options;
}

/**
 * Sends messages; the part of a {@link Broker} that most services need. Every promise settles within the send's
 * `timeoutMs`. It resolves only after the broker has confirmed. It rejects with a `MessagingError`:
 *
 * - `invalid`, `too-large`: nothing was sent;
 * - `not-found`, `unroutable`, `refused`: the broker does not have the message;
 * - `overloaded`, `timeout`: the message was never handed to the broker;
 * - `unconfirmed`: it may or may not be stored; for an idempotent consumer, sending it again with the same id is safe;
 * - `closed`: the broker object is not started, or is stopping.
 *
 * Concurrent calls are allowed. Messages of one caller to one destination are sent in call order. An asynchronous schema
 * keeps that order for messages of one key of an ordered destination; any others pass one that still waits for its schema.
 */
export interface Publisher {
  /** Sends work to a queue. */
  send<Input, Output>(queue: Queue<Input, Output>, body: NoInfer<Input>, options?: SendOptions): Promise<Receipt>;
  /** Publishes an event to a topic. */
  publish<Input, Output>(topic: Topic<Input, Output>, body: NoInfer<Input>, options?: PublishOptions): Promise<Receipt>;
  /**
   * Sends each message on its own; a failed one does not fail the others. Resolves with the receipts in order if all are
   * confirmed. Otherwise rejects with `partly-failed`, whose `outcomes` has one outcome per message, in order.
   */
  sendMany<Input, Output>(
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, SendOptions>[],
  ): Promise<readonly Receipt[]>;
  /** As {@link Publisher.sendMany}, for events. */
  publishMany<Input, Output>(
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, PublishOptions>[],
  ): Promise<readonly Receipt[]>;
}

/** A snapshot of a broker object; see {@link Broker.status}. */
export interface BrokerStatus {
  readonly state: "new" | "starting" | "started" | "stopping" | "stopped";
  /** Whether the adapter has its connection. */
  readonly connected: boolean;
  /** Why the broker refuses to take messages for now. */
  readonly blocked: string | undefined;
  readonly publishing: {
    /** Messages accepted and not yet confirmed. */
    readonly messages: number;
    readonly bytes: number;
    /** Callers waiting for room. */
    readonly waiting: number;
  };
  readonly consumers: readonly ConsumerStatus[];
}

/** Queues and topics on one message broker. `Native` is the client library's own message. */
export interface Broker<Native = unknown> extends Publisher {
  /**
   * Handles a queue's messages, competing with its other consumers. Called before `start`, it consumes from the start on.
   * Called later, it begins at once, and reports a failure by `ConsumerStatus.error` and the event `stalled`. Throws
   * `invalid` for wrong options.
   */
  consume<Input, Output>(
    queue: Queue<Input, Output>,
    handler: Handler<Output, Native>,
    options?: ConsumeOptions<NoInfer<Output>>,
  ): Consumer;
  /** Handles a subscription's events, competing with its other consumers. See {@link Broker.consume}. */
  subscribe<Input, Output>(
    topic: Topic<Input, Output>,
    subscription: string,
    handler: Handler<Output, Native>,
    options?: SubscribeOptions<NoInfer<Output>>,
  ): Consumer;
  /**
   * Checks the capabilities that are asked for, connects, declares or verifies the topology, and begins to consume.
   *
   * - Rejects with `start-failed`, whose `problems` lists every problem found, and leaves nothing open.
   * - Does nothing if it is started already. After `stop` it starts again, without consumers that were stopped by
   *   `Consumer.stop`.
   * - With `waitMs` it waits for a broker that cannot be reached yet.
   * - Throws `invalid` for wrong options.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops taking messages, lets running handlers finish, settles their messages, waits for confirms, and closes. Handlers
   * may send until they are done; later sends are refused with `closed`. A second call waits for
   * the first, and a shorter `timeoutMs` of it counts for both.
   */
  stop(options?: StopOptions): Promise<void>;
  /** Calls `stop` with its default, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
  /** How many messages a queue, or one subscription of a topic, has. Rejects with `not-found` or, while not started, `closed`. */
  depth<Input, Output>(queue: Queue<Input, Output>): Promise<Depth>;
  depth<Input, Output>(topic: Topic<Input, Output>, subscription: string): Promise<Depth>;
  /**
   * Moves an existing subscription to another position, so that events are handled again or skipped. Stop its consumers
   * in every process first. Rejects with `unsupported` on a broker without `rewind`, `conflict` while a consumer is open,
   * `not-found`, and `closed` while not started.
   */
  rewind<Input, Output>(topic: Topic<Input, Output>, subscription: string, to: StartPosition): Promise<void>;
  status(): BrokerStatus;
}

/** Handles the messages of one queue or subscription. */
export interface Consumer {
  /**
   * Starts no more handlers and takes no more messages. Running handlers continue, and the connection stays. Buffered
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
   * signals and requeues their messages. A second call, or a stop of the broker object, waits for the first, and a shorter
   * `timeoutMs` of it counts for both. `Broker.start` does not start it again.
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

import type { Depth, StartPosition } from "./adapter.ts";
import type { Consumer, ConsumerStatus } from "./consumer.ts";
import type { Handler } from "./delivery.ts";
import type { Queue, Topic } from "./destination.ts";
import type {
  ConsumeOptions,
  PublishOptions,
  SendOptions,
  StartOptions,
  StopOptions,
  SubscribeOptions,
} from "./options.ts";

/** What a confirmed send tells. */
export interface Receipt {
  /** The message's id. */
  readonly id: string;
}

/** One message of a `sendMany` or `publishMany`: a body with options of its own. */
export interface BatchEntry<Body, Options> {
  readonly body: Body;
  readonly options?: Options;
}

/**
 * What most services inject. Every promise settles within the send's `timeoutMs`: it resolves only when the broker has
 * confirmed, and rejects with a {@link MessagingError}: `invalid` or `too-large` (nothing was sent), `not-found`,
 * `unroutable` or `refused` (the broker does not have it), `overloaded` or `timeout` (it was never handed over),
 * `unconfirmed` (it may or may not be stored; sending it again with the same id is safe for an idempotent consumer),
 * `closed`. Calls may be made concurrently; messages of one caller to one destination are handed over in call order.
 */
export interface Publisher {
  /** Puts work on a queue. */
  send<Input, Output>(queue: Queue<Input, Output>, body: NoInfer<Input>, options?: SendOptions): Promise<Receipt>;
  /** Publishes an event to a topic. */
  publish<Input, Output>(topic: Topic<Input, Output>, body: NoInfer<Input>, options?: PublishOptions): Promise<Receipt>;
  /**
   * Sends each on its own; one that fails does not fail the others. Resolves with the receipts in order if all are
   * confirmed, else rejects with `partly-failed`, whose `outcomes` has the end of each in order.
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

/**
 * Queues and topics on one message broker. `Native` is the client library's own message.
 */
export interface Broker<Native = unknown> extends Publisher {
  /**
   * Handles a queue's messages, competing with every other consumer of it. May be called before `start`, which then
   * begins to consume, or after, which begins at once and reports a failure by `ConsumerStatus.error` and the event
   * `stalled`. Throws `invalid` for wrong options.
   */
  consume<Input, Output>(
    queue: Queue<Input, Output>,
    handler: Handler<Output, Native>,
    options?: ConsumeOptions<NoInfer<Output>>,
  ): Consumer;
  /**
   * Handles a subscription's copy of a topic's events, competing with every other consumer of the same subscription.
   * See {@link Broker.consume}.
   */
  subscribe<Input, Output>(
    topic: Topic<Input, Output>,
    subscription: string,
    handler: Handler<Output, Native>,
    options?: SubscribeOptions<NoInfer<Output>>,
  ): Consumer;
  /**
   * Checks every capability asked for, connects, declares or verifies, and begins to consume. Rejects with
   * `start-failed`, whose `problems` lists everything found at once, and leaves nothing open. A second call while
   * started does nothing; after `stop` it starts again, with the consumers that were not stopped by themselves. With
   * `waitMs` it waits for a broker that is not there yet. Throws `invalid` for wrong options.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops taking messages, lets running handlers finish, settles them, waits for the confirms of what was sent, and
   * closes. Handlers may send until they are done; after that sends are refused with `closed`. A second call waits for
   * the first.
   */
  stop(options?: StopOptions): Promise<void>;
  /** Calls `stop` with its default, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
  /** How much stands on a queue, or on one subscription of a topic. Rejects with `not-found` or, while not started, `closed`. */
  depth<Input, Output>(queue: Queue<Input, Output>): Promise<Depth>;
  depth<Input, Output>(topic: Topic<Input, Output>, subscription: string): Promise<Depth>;
  /**
   * Moves a subscription that exists to another position, so that its events are handled again, or some are passed over.
   * Stop its consumers first, in every process: with `Consumer.stop`, or the whole broker object. Rejects with
   * `unsupported` on a broker without `replay`, `conflict` while anybody consumes from it, `not-found`, and `closed`
   * while not started.
   */
  rewind<Input, Output>(topic: Topic<Input, Output>, subscription: string, to: StartPosition): Promise<void>;
  status(): BrokerStatus;
}

import type { DeclareMode } from "./adapter.ts";
import type { CapabilityName } from "./capabilities.ts";
import type { Clock, Random } from "./clock.ts";
import type { Middleware } from "./delivery.ts";
import type { Destination, SubscriptionOptions } from "./destination.ts";
import type { BrokerEvent } from "./events.ts";

/** Growing delays between attempts. */
export interface RetryDelay {
  /** The delay after the first failed attempt, in milliseconds. Default 1,000, or `maxMs` if that is less. */
  readonly firstMs?: number;
  /** What each delay is multiplied by for the next. Default 2. */
  readonly factor?: number;
  /** The longest delay, in milliseconds, before jitter; `firstMs` at least. Default 60,000, or `firstMs` if that is more. */
  readonly maxMs?: number;
  /**
   * The most random time that is added to a delay, as a share of it from 0 to 1. It spreads messages that failed together.
   * Delays of `retry({ afterMs })` get none. Default 1: up to twice the delay. 0 turns it off.
   */
  readonly jitter?: number;
}

/** How often and when a failing message is tried. Attempts are counted over restarts of processes and brokers. */
export interface RetryPolicy {
  /** The most attempts before a message is dead-lettered. 1 means no retry. Default 5; for a list of delays, its length + 1. */
  readonly attempts?: number;
  /**
   * How long a message waits after a failed attempt. Default: 1 s, doubled up to 60 s, with jitter.
   *
   * - A list has the delay of each retry, in milliseconds; the last one counts for all further retries.
   * - A function gets the number of the failed attempt, from 1 up, and returns milliseconds. If it throws or returns
   *   anything else, a `notice` reports it and the default delay is used.
   *
   * Lists and functions get no jitter.
   */
  readonly delay?: RetryDelay | readonly number[] | ((attempt: number) => number);
}

/** The most that a consumer takes before it settles. */
export interface PrefetchOptions {
  /**
   * The most unsettled deliveries, running and waiting in memory. The engine adapts to the rate of the handlers, from
   * `concurrency` up to this; a higher concurrency is not reached. Default 500.
   */
  readonly messages?: number;
  /** The most bytes of their bodies; a single larger message is taken alone. Default 64 MiB. */
  readonly bytes?: number;
}

/** How the engine finds messages that crash their consumers, among those that were only redelivered. */
export interface QuarantineOptions {
  /**
   * How long a consumer with a quarantined message may write nothing to the quarantine log before it counts as crashed.
   * In milliseconds, 100 at least. Default 60,000. Choose more than the event loop is ever blocked, and more than
   * a reconnect takes. A message of a silent consumer waits that long.
   */
  readonly silenceMs?: number;
}

/** The options of `consume`, and as `BrokerOptions.consume` the defaults for every consumer. */
export interface ConsumeOptions<Body = unknown> {
  /** The most handlers that run at once. Default 10. `Consumer.setConcurrency` changes it. */
  readonly concurrency?: number;
  readonly retry?: RetryPolicy;
  /**
   * How long a handler may take, in milliseconds. Then its signal is aborted and the attempt fails with `timeout`. A
   * handler that ignores the signal goes on beside its retry and counts in `ConsumerStatus.abandoned`. Default 300,000
   * (5 minutes).
   */
  readonly timeoutMs?: number;
  readonly prefetch?: PrefetchOptions;
  /**
   * The most deliveries that do not count in `prefetch`: parked and quarantined ones, and blocking retries whose copy the
   * broker refuses. Their bodies take `prefetch.bytes` at most, in addition to the prefetch. Deliveries over either bound
   * count in the prefetch. Default 100.
   */
  readonly maxParked?: number;
  readonly quarantine?: QuarantineOptions;
  /** Wraps the handler, inside the broker's own middleware. */
  readonly use?: readonly Middleware<Body>[];
}

/** The options of `subscribe`: those of a consumer and those of the subscription. */
export interface SubscribeOptions<Body = unknown> extends ConsumeOptions<Body>, SubscriptionOptions {}

/** The options of one `send`. */
export interface SendOptions {
  /** The message's id. Default: a new UUIDv7. */
  readonly id?: string;
  /** The key that order is kept by. Default: by the destination's `key`. */
  readonly key?: string;
  /** Texts by name. Names that begin with `anybroker-` are refused: the library uses them. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Delivers the message this many milliseconds from now, never earlier. Refused on ordered destinations. */
  readonly delayMs?: number;
  /** Milliseconds after which the message is dead-lettered instead of delivered. Default: the destination's. */
  readonly ttlMs?: number;
  /** From 0 (lowest) to the queue's `priorities - 1`. Default 0. */
  readonly priority?: number;
  /** How long the send may take, in milliseconds. Default: the broker's `publish.timeoutMs`. */
  readonly timeoutMs?: number;
  /**
   * Aborts the send. Before the message is handed to the broker, the send rejects with `aborted` and nothing is sent.
   * Afterwards it rejects with `unconfirmed`, unless the broker has answered: the message may be stored.
   */
  readonly signal?: AbortSignal;
}

/** The options of one `publish`. */
export interface PublishOptions extends Omit<SendOptions, "priority"> {
  /** The key that subscriptions filter by, such as `geo.us.ny`. Default: by the topic's `routingKey`. */
  readonly routingKey?: string;
}

/** The bounds of the publish buffer, and the time for sends. */
export interface PublishingOptions {
  /** The most messages accepted and not yet confirmed. Default 10,000. */
  readonly maxMessages?: number;
  /** The most bytes of these messages. Default 64 MiB. */
  readonly maxBytes?: number;
  /** What a send does while the buffer is full: `wait` for room, or `fail` at once with `overloaded`. Default `wait`. */
  readonly whenFull?: "wait" | "fail";
  /**
   * How long a send may take in all, in milliseconds, with waiting for room and further tries. Default 30,000. Then it
   * rejects: with `timeout` if the message was never handed to the broker, else with `unconfirmed`.
   */
  readonly timeoutMs?: number;
}

/** The options of `createBroker`. */
export interface BrokerOptions {
  /** Destinations to declare at start, besides those with consumers: usually those that this process only sends to. */
  readonly destinations?: readonly Destination[];
  /**
   * What `start` does about the topology: `create` what is missing, `verify` that everything exists as declared, or `none`.
   * Default `create`.
   */
  readonly declare?: DeclareMode;
  /** Capabilities that `start` requires, besides those that destinations ask for. */
  readonly require?: readonly CapabilityName[];
  readonly publish?: PublishingOptions;
  /** Defaults for every consumer. */
  readonly consume?: ConsumeOptions;
  /** Wraps every handler. The first is the outermost. */
  readonly use?: readonly Middleware[];
  /** Is called with each event. Errors that it throws are ignored. */
  readonly onEvent?: (event: BrokerEvent) => void;
  /** The source of time. Default: the machine's clock. */
  readonly clock?: Clock;
  /** The source of randomness. Default: the operating system. */
  readonly random?: Random;
}

/** The options of a consumer's `pause`. */
export interface PauseOptions {
  /**
   * Requeues the messages that wait in memory. They are delivered again, here or elsewhere. This uses up no attempt where
   * the broker can tell it from a crash. Default false.
   */
  readonly requeue?: boolean;
}

/** The options of `start`. */
export interface StartOptions {
  /**
   * How long to wait for a broker that cannot be reached, in milliseconds. Default 0: one try.
   *
   * The engine tries again after growing pauses, and a `notice` reports each failed try. Only `unreachable` and a late
   * answer are tried again, and no refused login, missing queue or conflict. A running try is not cut short. `stop` ends
   * the waiting.
   */
  readonly waitMs?: number;
}

/** The options of `stop`, of a broker or of a consumer. */
export interface StopOptions {
  /** How long handlers may go on, in milliseconds. Then they are aborted and their messages requeued. Default 30,000. */
  readonly timeoutMs?: number;
}

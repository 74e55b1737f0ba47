import type { DeclareMode } from "./adapter.ts";
import type { CapabilityName } from "./capabilities.ts";
import type { Clock, Random } from "./clock.ts";
import type { Middleware } from "./delivery.ts";
import type { Destination, SubscriptionOptions } from "./destination.ts";
import type { BrokerEvent } from "./events.ts";

/** How failed attempts are spaced: each delay so many times the one before. */
export interface RetryDelay {
  /** The delay after the first failed attempt, in milliseconds. Default 1,000, or `maxMs` if that is less. */
  readonly firstMs?: number;
  /** What each delay is multiplied by for the next. Default 2. */
  readonly factor?: number;
  /** The longest delay, in milliseconds, before jitter. Not less than `firstMs`. Default 60,000, or `firstMs` if that is more. */
  readonly maxMs?: number;
  /**
   * How much is drawn at random on top, as a share of the delay from 0 to 1, so that what failed together does not come
   * back together. The delay is never shorter than it would be without, and up to twice as long with 1. What
   * `retry({ afterMs })` asks for gets none. Default 1; 0 turns it off.
   */
  readonly jitter?: number;
}

/** How often a failing message is tried, and when. Retries count over restarts of the process and of the broker. */
export interface RetryPolicy {
  /**
   * How often a handler is started on a message before it is dead-lettered. 1 is: no retry. Default 5; for a list of delays
   * one more than it has.
   */
  readonly attempts?: number;
  /**
   * How long a message waits after a failed attempt. A list has a delay in milliseconds for each retry, the last of which
   * stands for all further ones; a function is given the number of the failed attempt, from 1 up, and returns milliseconds.
   * Both are taken at their word, without jitter. A function that throws or returns no such number is told as a `notice`,
   * and the default delay is waited. Default: 1 s, doubled up to 60 s, with jitter.
   */
  readonly delay?: RetryDelay | readonly number[] | ((attempt: number) => number);
}

/** What a consumer holds at most. */
export interface PrefetchOptions {
  /**
   * The most unsettled deliveries, those running and those waiting in memory. The engine takes what the handlers' rate
   * asks for, from `concurrency` up to this; a higher concurrency is not reached. Default 500.
   */
  readonly messages?: number;
  /** The most bytes of bodies of unsettled deliveries; a single larger one is taken alone. Default 64 MiB. */
  readonly bytes?: number;
}

/** How messages that crash their consumers are told from those that were only redelivered. */
export interface QuarantineOptions {
  /**
   * How long a consumer that ran a quarantined message may write nothing to the quarantine log before it is taken for
   * crashed, in milliseconds, 100 at least. Longer than the event loop is ever blocked and a lost connection takes to come
   * back: one that is silent for longer looks like one that crashed. A message that was in such hands waits for so long.
   * Default 60,000.
   */
  readonly silenceMs?: number;
}

/** The options of `consume`, and as `BrokerOptions.consume` the defaults for every consumer. */
export interface ConsumeOptions<Body = unknown> {
  /** How many handlers run at once, at most. Default 10. `Consumer.setConcurrency` changes it. */
  readonly concurrency?: number;
  readonly retry?: RetryPolicy;
  /**
   * How long a handler may take, in milliseconds. Then its signal is aborted and the attempt has failed with `timeout`;
   * a handler that ignores the signal goes on beside its retry and is counted in `ConsumerStatus.abandoned`. Default
   * 300,000 (5 minutes).
   */
  readonly timeoutMs?: number;
  readonly prefetch?: PrefetchOptions;
  /**
   * The most deliveries that do not count in `prefetch`: those parked until their dead letter can be made, those that rest here
   * because the broker refuses the copy for their retry, and those quarantined until they may start. Their bodies take
   * `prefetch.bytes` at most, in addition to the prefetch. What is over either bound counts in the prefetch. Default 100.
   */
  readonly maxParked?: number;
  readonly quarantine?: QuarantineOptions;
  /** Wraps the handler, inside the broker's own middleware. */
  readonly use?: readonly Middleware<Body>[];
}

/** The options of `subscribe`: those of a consumer, and what the subscription is. */
export interface SubscribeOptions<Body = unknown> extends ConsumeOptions<Body>, SubscriptionOptions {}

/** The options of one `send`. */
export interface SendOptions {
  /** The message's id. Default: a new UUIDv7. */
  readonly id?: string;
  /** What order is kept by. Default: what the destination's `key` gives. */
  readonly key?: string;
  /** Own string values; names beginning with `anybroker-` are the library's. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Deliver this many milliseconds from now, never earlier. Refused on ordered destinations. */
  readonly delayMs?: number;
  /** Dead-letter instead of delivering after this many milliseconds. Default: the destination's. */
  readonly ttlMs?: number;
  /** From 0 (lowest) to the queue's `priorities - 1`. Default 0. */
  readonly priority?: number;
  /** How long to try, in milliseconds. Default: the broker's `publish.timeoutMs`. */
  readonly timeoutMs?: number;
}

/** The options of one `publish`. */
export interface PublishOptions extends Omit<SendOptions, "priority"> {
  /** What subscriptions filter by, as in `geo.us.ny`. Default: what the topic's `routingKey` gives. */
  readonly routingKey?: string;
}

/** The bounds of a broker object's publish buffer, and how long sends may take. */
export interface PublishingOptions {
  /** The most messages accepted and not yet confirmed. Default 10,000. */
  readonly maxMessages?: number;
  /** The most bytes of them. Default 64 MiB. */
  readonly maxBytes?: number;
  /** When that much is waiting: `wait` for room, or `fail` at once with `overloaded`. Default `wait`. */
  readonly whenFull?: "wait" | "fail";
  /**
   * How long one send may take in all, in milliseconds, waiting for room and trying again included. Default 30,000.
   * Then it rejects: `timeout` if the message was never handed to the broker, else `unconfirmed`.
   */
  readonly timeoutMs?: number;
}

/** The options of `createBroker`. */
export interface BrokerOptions {
  /** What is declared at start besides everything that is consumed from: what this process only sends to. */
  readonly destinations?: readonly Destination[];
  /**
   * What `start` may do to the broker: `create` what is missing, `verify` that everything is there as declared, or
   * `none`. Default `create`.
   */
  readonly declare?: DeclareMode;
  /** Capabilities without which `start` refuses, besides those that destinations ask for. */
  readonly require?: readonly CapabilityName[];
  readonly publish?: PublishingOptions;
  /** Defaults for every consumer. */
  readonly consume?: ConsumeOptions;
  /** Wraps every handler. The first is the outermost. */
  readonly use?: readonly Middleware[];
  /** Called with everything worth knowing. It must not throw; what it throws is ignored. */
  readonly onEvent?: (event: BrokerEvent) => void;
  /** Where the engine takes its time from. Default: the machine. */
  readonly clock?: Clock;
  /** Where the engine takes its randomness from. Default: the operating system. */
  readonly random?: Random;
}

/** The options of a consumer's `pause`. */
export interface PauseOptions {
  /**
   * Gives back what waits in memory. It comes again, here or elsewhere, and no attempt is used up where the broker can
   * tell it from a death. Default false.
   */
  readonly requeue?: boolean;
}

/** The options of `start`. */
export interface StartOptions {
  /**
   * How long to try until the broker is there, in milliseconds, with growing pauses; a `notice` tells of each try in vain.
   * Only what is `unreachable`, or answers too late, is tried again: no refused login, missing queue or conflict. A try
   * that is under way is not cut short, and `stop` ends the waiting. Default 0: one try.
   */
  readonly waitMs?: number;
}

/** The options of `stop`, of a broker or of a consumer. */
export interface StopOptions {
  /**
   * How long running handlers may go on, in milliseconds. Then their signals are aborted and their messages are given
   * back. Default 30,000.
   */
  readonly timeoutMs?: number;
}

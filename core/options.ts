import type { DeclareMode } from "./adapter.ts";
import { CAPABILITY_NAMES, type CapabilityName } from "./capabilities.ts";
import { checkInteger, checkObject, checkOptions, clockOf, randomOf } from "./checks.ts";
import type { Clock, Random } from "./clock.ts";
import type { Middleware } from "./delivery.ts";
import type { Destination, SubscriptionOptions } from "./destination.ts";
import { MessagingError } from "./errors.ts";
import type { BrokerEvent } from "./events.ts";
import { type RetryDelay, type RetryPolicy, retryPolicy } from "./retry-policy.ts";

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
   * handler that ignores the signal continues beside its retry and counts in `ConsumerStatus.abandoned`. Default 300,000
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
   * the broker can distinguish it from a crash. Default false.
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
  /** How long handlers may continue, in milliseconds. Then they are aborted and their messages requeued. Default 30,000. */
  readonly timeoutMs?: number;
}

export const DEFAULT_CONCURRENCY = 10;
const DEFAULT_TIMEOUT_MS = 300_000;
const DEFAULT_PREFETCH_MESSAGES = 500;
const DEFAULT_PREFETCH_BYTES = 64 * 1024 * 1024;
const DEFAULT_MAX_PARKED = 100;
const DEFAULT_SILENCE_MS = 60_000;
/** The engine reads and writes the log several times within it. */
const LEAST_SILENCE_MS = 100;

export const CONSUME_OPTIONS = ["concurrency", "retry", "timeoutMs", "prefetch", "maxParked", "quarantine", "use"];

/** Fills in the defaults: the broker's, then the library's. Throws `invalid` for wrong options. */
export function consumerOptions(where: string, given: ConsumeOptions, defaults: ConsumeOptions) {
  const concurrency = given.concurrency ?? defaults.concurrency ?? DEFAULT_CONCURRENCY;
  checkInteger(`${where} { concurrency }`, concurrency, 1);
  for (const part of ["prefetch", "retry", "quarantine"] as const) {
    if (given[part] !== undefined) checkObject(`${where} { ${part} }`, given[part]);
  }
  const timeoutMs = given.timeoutMs ?? defaults.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  const prefetch = { ...defaults.prefetch, ...given.prefetch };
  checkOptions(`${where} { prefetch }`, prefetch, ["messages", "bytes"]);
  const { messages = DEFAULT_PREFETCH_MESSAGES, bytes = DEFAULT_PREFETCH_BYTES } = prefetch;
  checkInteger(`${where} { prefetch.messages }`, messages, 1);
  checkInteger(`${where} { prefetch.bytes }`, bytes, 1);
  const maxParked = given.maxParked ?? defaults.maxParked ?? DEFAULT_MAX_PARKED;
  checkInteger(`${where} { maxParked }`, maxParked, 0);
  const quarantine = { ...defaults.quarantine, ...given.quarantine };
  checkOptions(`${where} { quarantine }`, quarantine, ["silenceMs"]);
  const { silenceMs = DEFAULT_SILENCE_MS } = quarantine;
  checkInteger(`${where} { quarantine.silenceMs }`, silenceMs, LEAST_SILENCE_MS);
  const own: unknown = given.use ?? [];
  if (!Array.isArray(own) || !own.every((middleware) => typeof middleware === "function")) {
    throw new MessagingError(
      "invalid",
      `${where} { use } takes a list of middleware: functions from handler to handler`,
    );
  }
  const use = [...(defaults.use ?? []), ...(given.use ?? [])];
  const retry = { ...defaults.retry, ...given.retry, delay: delayOf(given, defaults) };
  return { concurrency, timeoutMs, prefetchMessages: messages, prefetchBytes: bytes, maxParked, silenceMs, use, retry };
}

/** Merges the parts of a delay with the broker's default; a list or a function replaces it. */
function delayOf(given: ConsumeOptions, defaults: ConsumeOptions): NonNullable<RetryPolicy["delay"]> {
  const [own, usual] = [given.retry?.delay, defaults.retry?.delay];
  if (own === undefined) return usual ?? {};
  return isParts(own) && isParts(usual) ? { ...usual, ...own } : own;
}

function isParts(delay: RetryPolicy["delay"] | null): delay is RetryDelay | undefined {
  return delay === undefined || (typeof delay === "object" && delay !== null && !Array.isArray(delay));
}

const BROKER_OPTIONS = [
  "destinations",
  "declare",
  "require",
  "publish",
  "consume",
  "use",
  "onEvent",
  "clock",
  "random",
];
const PUBLISHING_OPTIONS = ["maxMessages", "maxBytes", "whenFull", "timeoutMs"];

/** Throws `invalid` for wrong options of `createBroker`. */
export function checkBrokerOptions(options: BrokerOptions): void {
  const where = "createBroker";
  checkOptions(where, options, BROKER_OPTIONS);
  const { declare = "create", publish = {}, consume = {}, require = [] } = options;
  if (!["create", "verify", "none"].includes(declare)) {
    throw new MessagingError(
      "invalid",
      `${where} { declare } takes "create", "verify" or "none", not ${String(declare)}`,
    );
  }
  checkOptions(`${where} { publish }`, publish, PUBLISHING_OPTIONS);
  for (const name of ["maxMessages", "maxBytes", "timeoutMs"] as const) {
    if (publish[name] !== undefined) checkInteger(`${where} { publish.${name} }`, publish[name], 1);
  }
  if (publish.whenFull !== undefined && publish.whenFull !== "wait" && publish.whenFull !== "fail") {
    throw new MessagingError(
      "invalid",
      `${where} { publish.whenFull } takes "wait" or "fail", not ${String(publish.whenFull)}`,
    );
  }
  checkOptions(`${where} { consume }`, consume, CONSUME_OPTIONS);
  const { retry } = consumerOptions(`${where} { consume }`, {}, consume);
  clockOf(`${where} { clock }`, options.clock);
  const random = randomOf(`${where} { random }`, options.random);
  retryPolicy(`${where} { consume }`, retry, { random, notice: () => {} });
  for (const capability of require) {
    if (CAPABILITY_NAMES.includes(capability)) continue;
    throw new MessagingError(
      "invalid",
      `${where} { require } knows ${CAPABILITY_NAMES.join(", ")}, not ${String(capability)}`,
    );
  }
}

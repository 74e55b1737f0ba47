import type { Depth } from "../../core/adapter.ts";
import { addressName, workAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import { type Clock, pause } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { unawaited } from "../../core/foreign.ts";
import { askDepth, type DepthLimit, sourceName } from "./admit-by-depth.ts";
import { HandlingMeter } from "./handling-meter.ts";
import { checkFunction } from "./options.ts";

/** The options of {@link backlog}. */
export interface BacklogOptions {
  /** Required for a topic: the subscription. */
  readonly subscription?: string;
  /** How long a message may wait, in milliseconds. `consumersRecommended` aims at it. Default 10,000. */
  readonly targetDelayMs?: number;
  /** The bounds of `consumersRecommended`. Default: 1, and no maximum. */
  readonly minConsumers?: number;
  readonly maxConsumers?: number;
  /**
   * Returns how many processes like this one consume now, for example from the scheduler. Rates measured here are
   * multiplied by it. Default: 1.
   */
  readonly consumers?: () => number;
  /** The time between two readings of `for await`, in milliseconds. Default 5,000. */
  readonly intervalMs?: number;
  /** The period that rates are measured over, in milliseconds. Default 60,000. */
  readonly windowMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

/** What a backlog is read from: a broker object. */
export type BacklogSource = Pick<Broker, "depth" | "status">;

/** The options with their defaults. */
type BacklogSettings = Required<Omit<BacklogOptions, "subscription">>;

/** Fills in the defaults. Throws `invalid`. */
function backlogSettings(options: BacklogOptions): BacklogSettings {
  const where = "backlog";
  checkOptions(where, options, [
    "subscription",
    "targetDelayMs",
    "minConsumers",
    "maxConsumers",
    "consumers",
    "intervalMs",
    "windowMs",
    "clock",
  ]);
  const settings: BacklogSettings = {
    targetDelayMs: options.targetDelayMs ?? 10_000,
    minConsumers: options.minConsumers ?? 1,
    maxConsumers: options.maxConsumers ?? Number.POSITIVE_INFINITY,
    consumers: options.consumers ?? (() => 1),
    intervalMs: options.intervalMs ?? 5_000,
    windowMs: options.windowMs ?? 60_000,
    clock: clockOf(`${where} { clock }`, options.clock),
  };
  checkInteger(`${where} { targetDelayMs }`, settings.targetDelayMs, 1);
  checkInteger(`${where} { minConsumers }`, settings.minConsumers, 0);
  if (options.maxConsumers !== undefined) {
    checkInteger(`${where} { maxConsumers }`, settings.maxConsumers, Math.max(settings.minConsumers, 1));
  }
  checkFunction(`${where} { consumers }`, settings.consumers);
  checkInteger(`${where} { intervalMs }`, settings.intervalMs, 1);
  checkInteger(`${where} { windowMs }`, settings.windowMs, 1_000);
  return settings;
}

/** The backlog at one moment. Unknown values are undefined. */
export interface BacklogReading {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  readonly at: Date;
  /**
   * Messages ready for delivery (`Depth.ready`). On Kafka this is the lag, which includes messages in flight; on SQS it
   * is approximate. Undefined while the broker is unreachable.
   */
  readonly depth: number | undefined;
  /** Messages in flight, if the broker reports them. */
  readonly unsettled: number | undefined;
  /** Whether both numbers are exact. */
  readonly exact: boolean;
  /**
   * An upper bound for the age of the oldest waiting message, in milliseconds since its first publishing:
   * - 0 if nothing waits;
   * - otherwise the greatest age at a first attempt since the last reading;
   * - without such an attempt, the present age of the message that was started last.
   *
   * Measured by `middleware`; undefined until it handled a message. Includes delays of sends, not of retries.
   */
  readonly oldestAgeMs: number | undefined;
  /** Messages that handlers of this process finished since the meter was made. */
  readonly handled: number;
  /** Messages that this process dead-lettered since then. */
  readonly deadLettered: number;
  /** Messages handled or dead-lettered per second over the window: this process's rate times `consumers`. */
  readonly drainPerSecond: number | undefined;
  /** Messages that arrived per second over the window: the drain rate plus the growth of the depth. */
  readonly arrivalPerSecond: number | undefined;
  /** The average duration of a handler over the window, in milliseconds. Measured by `middleware`. */
  readonly handlingMs: number | undefined;
  /**
   * How many processes like this one handle the arrivals and reduce the backlog to the target delay:
   * `(arrival + depth / target) / (concurrency / handling time)`, rounded up. Undefined while one of them is unknown.
   */
  readonly consumersRecommended: number | undefined;
}

/** Counters at one moment. All except the depth only grow. */
interface BacklogSample {
  readonly at: number;
  /** Ready and in flight; undefined while the broker is unreachable. */
  readonly total: number | undefined;
  /** Handled or dead-lettered, as counted by the consumers. */
  readonly drained: number;
  /** Handlers that ended, as counted by the middleware. */
  readonly handled: number;
  readonly busyMs: number;
}

/** Rates between two samples. */
interface BacklogRates {
  readonly drainPerSecond: number;
  readonly depthPerSecond: number | undefined;
  readonly handlingMs: number | undefined;
}

/** The samples of the last `windowMs`, and one older sample. */
class BacklogHistory {
  readonly #windowMs: number;
  readonly #samples: BacklogSample[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(sample: BacklogSample): void {
    this.#samples.push(sample);
    const from = sample.at - this.#windowMs;
    while ((this.#samples[1]?.at ?? Number.POSITIVE_INFINITY) <= from) this.#samples.shift();
  }

  /** The rates between the oldest sample and the newest; undefined with fewer than two. */
  rates(): BacklogRates | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return undefined;
    const handled = last.handled - first.handled;
    return {
      drainPerSecond: ((last.drained - first.drained) * 1_000) / (last.at - first.at),
      depthPerSecond: this.#growth(),
      handlingMs: handled === 0 ? undefined : (last.busyMs - first.busyMs) / handled,
    };
  }

  /** The growth of the depth per second, between the first and the last known depth. */
  #growth(): number | undefined {
    const known = ({ total }: BacklogSample): boolean => total !== undefined;
    const first = this.#samples.find(known);
    const last = this.#samples.findLast(known);
    if (first?.total === undefined || last?.total === undefined || last.at <= first.at) return undefined;
    return ((last.total - first.total) * 1_000) / (last.at - first.at);
  }
}

/** The least time between two depth requests. */
const LEAST_MS = 1_000;

/** The options of {@link Backlog.readings}. */
export interface ReadingsOptions {
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

/** Measures the backlog of one queue or subscription; made by {@link backlog}. */
export interface Backlog extends AsyncIterable<BacklogReading> {
  /** Goes into `use` of the consumers. Without it, age, handling time and recommendation are undefined. */
  readonly middleware: Middleware;
  /**
   * Reads the backlog. Calls within one second share a reading. While the broker is unreachable, the depth is undefined.
   * Rejects with `not-found` and `unauthorized`, and with `invalid` if `consumers` returns no number.
   */
  read(): Promise<BacklogReading>;
  /** Yields a reading at once and then every `intervalMs`, until the loop ends or the signal is aborted. */
  readings(options?: ReadingsOptions): AsyncIterableIterator<BacklogReading>;
}

/**
 * Measures how much waits on a queue or subscription: depth, age, arrival and drain rates, and the consumers needed. An
 * autoscaler reads it by `for await`, or as text by {@link prometheusText}.
 *
 *     const meter = backlog(broker, orders, { targetDelayMs: 5_000 });
 *     broker.consume(orders, handle, { use: [meter.middleware] });
 *     for await (const { depth, consumersRecommended } of meter) scale(consumersRecommended);
 *
 * The depth comes from the broker. The rest is measured in the consumers and means the same on every broker. Readers
 * share one measurement. Throws `invalid` for wrong options.
 */
export function backlog(
  broker: BacklogSource,
  destination: DepthLimit["destination"],
  options: BacklogOptions = {},
): Backlog {
  const settings = backlogSettings(options);
  const { subscription } = options;
  sourceName("backlog", destination, subscription);
  const name = addressName(workAddress(destination.name, subscription));
  return new BacklogMeter(name, broker, () => askDepth(broker, { destination, subscription }), settings);
}

class BacklogMeter implements Backlog {
  readonly middleware: Middleware;
  readonly #name: string;
  readonly #broker: BacklogSource;
  readonly #ask: () => Promise<Depth>;
  readonly #settings: BacklogSettings;
  readonly #meter: HandlingMeter;
  readonly #history: BacklogHistory;
  /** The counters of the consumers at the last reading. */
  #counted = { handled: 0, deadLettered: 0 };
  #handled = 0;
  #deadLettered = 0;
  #last: { readonly reading: Promise<BacklogReading>; readonly at: number } | undefined;

  constructor(name: string, broker: BacklogSource, ask: () => Promise<Depth>, settings: BacklogSettings) {
    this.#name = name;
    this.#broker = broker;
    this.#ask = ask;
    this.#settings = settings;
    this.#meter = new HandlingMeter(settings.clock);
    this.#history = new BacklogHistory(settings.windowMs);
    this.middleware = this.#meter.middleware;
  }

  read(): Promise<BacklogReading> {
    const now = this.#settings.clock.monotonic();
    if (this.#last === undefined || now - this.#last.at >= LEAST_MS) {
      this.#last = { reading: this.#read(), at: now };
    }
    return this.#last.reading;
  }

  async *readings({
    signal = new AbortController().signal,
  }: ReadingsOptions = {}): AsyncGenerator<BacklogReading, void> {
    const { clock, intervalMs } = this.#settings;
    while (!signal.aborted) {
      yield await this.read();
      await pause(clock, intervalMs, signal);
    }
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<BacklogReading> {
    return this.readings();
  }

  async #read(): Promise<BacklogReading> {
    const { clock } = this.#settings;
    const depth = await this.#depth();
    const consuming = this.#consuming();
    const waiting = this.#meter.takeOldestMs();
    const { handled: measured, busyMs } = this.#meter;
    const [handled, deadLettered] = [this.#handled, this.#deadLettered];
    const total = depth === undefined ? undefined : depth.ready + (depth.unsettled ?? 0);
    this.#history.add({ at: clock.monotonic(), total, drained: handled + deadLettered, handled: measured, busyMs });
    const { drainPerSecond, arrivalPerSecond, handlingMs } = this.#rates();
    return {
      source: this.#name,
      at: new Date(clock.now()),
      depth: depth?.ready,
      unsettled: depth?.unsettled,
      exact: depth?.exact ?? false,
      oldestAgeMs: depth?.ready === 0 ? 0 : waiting,
      handled,
      deadLettered,
      drainPerSecond,
      arrivalPerSecond,
      handlingMs,
      consumersRecommended: this.#recommended(depth?.ready, arrivalPerSecond, handlingMs, consuming),
    };
  }

  async #depth(): Promise<Depth | undefined> {
    try {
      return await this.#ask();
    } catch (error) {
      // These do not pass by themselves, unlike an unreachable broker.
      if (isMessagingError(error, "not-found") || isMessagingError(error, "unauthorized")) throw error;
      return undefined;
    }
  }

  /** Updates the counters, and returns the concurrency of this process. */
  #consuming(): number {
    const own = this.#broker.status().consumers.filter(({ source }) => source === this.#name);
    const handled = own.reduce((sum, { succeeded }) => sum + succeeded, 0);
    const deadLettered = own.reduce((sum, one) => sum + one.deadLettered, 0);
    // A smaller sum means that a consumer was removed.
    this.#handled += Math.max(handled - this.#counted.handled, 0);
    this.#deadLettered += Math.max(deadLettered - this.#counted.deadLettered, 0);
    this.#counted = { handled, deadLettered };
    return own.reduce((sum, { concurrency }) => sum + concurrency, 0);
  }

  /** The answer of the option `consumers`. */
  #processes(): number {
    const count: unknown = unawaited(this.#settings.consumers());
    if (typeof count === "number" && Number.isFinite(count)) return Math.max(count, 1);
    throw new MessagingError("invalid", "backlog { consumers } returned no number. Return a number, not a promise");
  }

  #rates(): Pick<BacklogReading, "drainPerSecond" | "arrivalPerSecond" | "handlingMs"> {
    const rates = this.#history.rates();
    if (rates === undefined) {
      return { drainPerSecond: undefined, arrivalPerSecond: undefined, handlingMs: undefined };
    }
    const drainPerSecond = rates.drainPerSecond * this.#processes();
    const { depthPerSecond, handlingMs } = rates;
    // Counters are not read at the same instant, and some are approximate: the sum may be slightly negative.
    const arrivalPerSecond = depthPerSecond === undefined ? undefined : Math.max(drainPerSecond + depthPerSecond, 0);
    return { drainPerSecond, arrivalPerSecond, handlingMs };
  }

  #recommended(
    depth: number | undefined,
    arrivalPerSecond: number | undefined,
    handlingMs: number | undefined,
    concurrency: number,
  ): number | undefined {
    if (depth === undefined || arrivalPerSecond === undefined || handlingMs === undefined) return undefined;
    if (concurrency === 0) return undefined;
    const { targetDelayMs, minConsumers, maxConsumers } = this.#settings;
    const neededPerSecond = arrivalPerSecond + (depth * 1_000) / targetDelayMs;
    // Little's law.
    const consumers = Math.ceil((neededPerSecond * handlingMs) / 1_000 / concurrency);
    return Math.min(Math.max(consumers, minConsumers), maxConsumers);
  }
}

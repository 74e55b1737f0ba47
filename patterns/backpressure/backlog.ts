import type { Depth } from "../../core/adapter.ts";
import { addressName, workAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { Middleware } from "../../core/delivery.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { unawaited } from "../../core/foreign.ts";
import { askDepth, type DepthLimit, sourceName } from "./admit-by-depth.ts";
import { HandlingMeter } from "./handling-meter.ts";
import { checkFunction } from "./options.ts";
import { pause } from "./pause.ts";

/** The options of `backlog`. */
export interface BacklogOptions {
  /** For a topic: the subscription. */
  readonly subscription?: string;
  /** How long a message may wait: what the recommended number of consumers is for, in milliseconds. Default 10,000. */
  readonly targetDelayMs?: number;
  /** The least and the most consumers recommended. Default 1, and no most. */
  readonly minConsumers?: number;
  readonly maxConsumers?: number;
  /**
   * How many processes like this one consume at present, for example what the scheduler says. What this one measures is
   * multiplied by it. Default: 1.
   */
  readonly consumers?: () => number;
  /** How long `for await` waits between two readings, in milliseconds. Default 5,000. */
  readonly intervalMs?: number;
  /** Rates are those of the last so many milliseconds. Default 60,000. */
  readonly windowMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** What a backlog is read from: a broker object. */
export type BacklogSource = Pick<Broker, "depth" | "status">;

/** Options with nothing left open. */
type BacklogSettings = Required<Omit<BacklogOptions, "subscription">>;

/** Fills in the defaults; throws `invalid` for what makes no sense. */
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

/** What a backlog was at one moment. What is not known is undefined, never a guess. */
export interface BacklogReading {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  readonly at: Date;
  /**
   * Messages that could be delivered, as the broker tells: `Depth.ready`. On Kafka this is the lag, which includes what
   * is delivered and not yet settled; on SQS it is approximate. Undefined while the broker cannot be asked.
   */
  readonly depth: number | undefined;
  /** Messages delivered and not yet settled, where the broker tells. */
  readonly unsettled: number | undefined;
  /** Whether both are exact. */
  readonly exact: boolean;
  /**
   * How old the oldest waiting message is at most, in milliseconds since its first publishing: 0 with nothing waiting;
   * otherwise the age at which first attempts were started since the last reading, the oldest of them; and if none was,
   * the age by now of the message started last, since what waits came after it. Measured by `middleware`, alike on every
   * broker; undefined until it has seen a message. Delays asked for at sending are part of it, retries are not.
   */
  readonly oldestAgeMs: number | undefined;
  /** Messages that handlers of this process have finished since the meter was made. */
  readonly handled: number;
  /** Messages that this process has dead-lettered since then. */
  readonly deadLettered: number;
  /** Messages handled or dead-lettered per second over the window, of all processes as far as `consumers` tells. */
  readonly drainPerSecond: number | undefined;
  /** Messages that came per second over the window: what was handled or dead-lettered, and what the depth grew by. */
  readonly arrivalPerSecond: number | undefined;
  /** How long a handler takes on average over the window, in milliseconds. Measured by `middleware`. */
  readonly handlingMs: number | undefined;
  /**
   * How many processes like this one keep up with what comes, and work off what waits within the target delay:
   * `(arrival + depth / target) / (concurrency / handling time)`, rounded up. Undefined until all of it is known.
   */
  readonly consumersRecommended: number | undefined;
}

/** What was counted up to one moment. All but the depth only grow. */
interface BacklogSample {
  readonly at: number;
  /** Undefined while the broker could not be asked. */
  readonly standing: number | undefined;
  /** Handled or dead-lettered, as the consumers counted. */
  readonly drained: number;
  /** Handlers that ended, as the middleware counted. */
  readonly handled: number;
  readonly busyMs: number;
}

/** Per second, over the time between two samples. */
interface BacklogRates {
  readonly drainPerSecond: number;
  readonly depthPerSecond: number | undefined;
  readonly handlingMs: number | undefined;
}

/** The samples of the last so many milliseconds, and one that is older, for the rates between them. */
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

  /** The rates from the oldest sample to the newest; undefined until there are two. */
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

  /** How fast the depth grows, between the first and the last time that it was known. */
  #growth(): number | undefined {
    const known = ({ standing }: BacklogSample): boolean => standing !== undefined;
    const first = this.#samples.find(known);
    const last = this.#samples.findLast(known);
    if (first?.standing === undefined || last?.standing === undefined || last.at <= first.at) return undefined;
    return ((last.standing - first.standing) * 1_000) / (last.at - first.at);
  }
}

/** However often it is read, the broker is asked no more often than this. */
const LEAST_MS = 1_000;

/** The options of {@link Backlog.readings}. */
export interface ReadingsOptions {
  /** Ends the readings. */
  readonly signal?: AbortSignal;
}

/** Measures the backlog of one queue or subscription; made by {@link backlog}. */
export interface Backlog extends AsyncIterable<BacklogReading> {
  /** Goes into `use` of the consumers of the queue. Without it age, handling time and recommendation are not known. */
  readonly middleware: Middleware;
  /**
   * The backlog now; the last reading again if it is less than a second old. Does not reject while the broker is away:
   * the depth is undefined then.
   */
  read(): Promise<BacklogReading>;
  /** One reading at once and one every `intervalMs`, until the loop is left or the signal aborted. */
  readings(options?: ReadingsOptions): AsyncIterableIterator<BacklogReading>;
}

/**
 * Measures how much waits on a queue or subscription, how old it is, how fast it comes and goes, and how many consumers
 * it takes: what an autoscaler reads, in process by `for await`, or as text by {@link prometheusText}.
 *
 *     const meter = backlog(broker, orders, { targetDelayMs: 5_000 });
 *     broker.consume(orders, handle, { use: [meter.middleware] });
 *     for await (const { depth, consumersRecommended } of meter) scale(consumersRecommended);
 *
 * Brokers tell the depth and little else; the rest is measured where messages are handled, by Little's law, so that it
 * means the same on each of them. Any number of readers share one measurement. Throws `invalid` for wrong options.
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
  /** What the consumers had counted when they were asked last. */
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
      if (!(await pause(clock, intervalMs, signal))) return;
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
    const standing = depth === undefined ? undefined : depth.ready + (depth.unsettled ?? 0);
    this.#history.add({ at: clock.monotonic(), standing, drained: handled + deadLettered, handled: measured, busyMs });
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
      // Somebody else's mistake, and for good, is not to be taken for a broker that is away.
      if (isMessagingError(error, "not-found") || isMessagingError(error, "unauthorized")) throw error;
      return undefined;
    }
  }

  /** Counts what was done since, and returns how many handlers this process may run at once. */
  #consuming(): number {
    const own = this.#broker.status().consumers.filter(({ source }) => source === this.#name);
    const handled = own.reduce((sum, { succeeded }) => sum + succeeded, 0);
    const deadLettered = own.reduce((sum, one) => sum + one.deadLettered, 0);
    // Less than before means that a consumer is gone.
    this.#handled += Math.max(handled - this.#counted.handled, 0);
    this.#deadLettered += Math.max(deadLettered - this.#counted.deadLettered, 0);
    this.#counted = { handled, deadLettered };
    return own.reduce((sum, { concurrency }) => sum + concurrency, 0);
  }

  /** How many processes consume, as the option says. */
  #processes(): number {
    const told: unknown = unawaited(this.#settings.consumers());
    if (typeof told === "number" && Number.isFinite(told)) return Math.max(told, 1);
    throw new MessagingError("invalid", "backlog { consumers } has to return a number, at once");
  }

  #rates(): Pick<BacklogReading, "drainPerSecond" | "arrivalPerSecond" | "handlingMs"> {
    const rates = this.#history.rates();
    if (rates === undefined) {
      return { drainPerSecond: undefined, arrivalPerSecond: undefined, handlingMs: undefined };
    }
    const drainPerSecond = rates.drainPerSecond * this.#processes();
    const { depthPerSecond, handlingMs } = rates;
    // Numbers taken one after the other, some of them approximate, may come out a little below nothing.
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
    // Little's law: with so many handlers at once, each so long, so much gets done.
    const consumers = Math.ceil((neededPerSecond * handlingMs) / 1_000 / concurrency);
    return Math.min(Math.max(consumers, minConsumers), maxConsumers);
  }
}

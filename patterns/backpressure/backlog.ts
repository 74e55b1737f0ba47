import { unawaited } from "../../core/foreign.ts";
import {
  addressName,
  type Depth,
  isMessagingError,
  MessagingError,
  type Middleware,
  workAddress,
} from "../../core/index.ts";
import { BacklogHistory } from "./backlog-history.ts";
import { type BacklogOptions, type BacklogSettings, type BacklogSource, backlogSettings } from "./backlog-options.ts";
import type { BacklogReading } from "./backlog-reading.ts";
import { askDepth, type DepthLimit, sourceName } from "./depth-limit.ts";
import { HandlingMeter } from "./handling-meter.ts";
import { pause } from "./pause.ts";

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

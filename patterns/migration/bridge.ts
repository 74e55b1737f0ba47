import { type Address, addressName } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions, LONGEST_MS } from "../../core/checks.ts";
import { pause } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import {
  type Bridge,
  type BridgeEnds,
  type BridgeOptions,
  type BridgeResult,
  type BridgeStatus,
  checkContent,
  endsOf,
  refuseItself,
} from "./bridge-ends.ts";
import { BridgePrefetch, BridgeRun, BridgeTally, type Pace, Pacer } from "./bridge-run.ts";

const OPTIONS = ["source", "target", "content", "until", "rate", "maxMessages", "maxBytes", "emptyForMs", "onProgress"];
const DEFAULT_MESSAGES = 1_000;
const DEFAULT_BYTES = 32 * 1024 * 1024;
const DEFAULT_EMPTY_FOR_MS = 10_000;
const PROGRESS_MS = 500;
const HIGHEST_RATE = 1_000_000;

/**
 * Moves the messages of one queue or subscription from a broker to another. A message is removed from the old broker only
 * after the new broker's confirm. A crash in between leaves it on both under the same id; no message is lost. A new bridge
 * continues.
 *
 * - A copy keeps id, key, routing key, headers, content type, body (byte for byte), first publishing time, attempts, and the
 *   rest of its delay and time to live. It keeps its priority as far as the new broker has priorities.
 * - The keys of an ordered source stay in order: one message of a key is sent at a time. A message that cannot be moved
 *   holds back its key.
 * - Messages that the new broker refuses (`too-large`, `refused`) stay, and are reported.
 * - Delayed messages are moved when they are due.
 * - Other consumers may share an unordered source. On an ordered source they would break the order.
 *
 * Both broker objects must be started, and the target must be declared. Memory is bounded by `maxMessages` and `maxBytes`.
 * Throws `invalid` for wrong options, or for broker objects that are not made by `createBroker`.
 */
export function bridge(from: Broker, to: Broker, options: BridgeOptions): Bridge {
  return pacedBridge(from, to, options);
}

/** As {@link bridge}, with a pace that bridges can share. */
export function pacedBridge(
  from: Broker,
  to: Broker,
  options: BridgeOptions,
  pace: (wake: () => void) => Pace = (wake) => new Pacer(internalsOf(from, "bridge(from)").clock, options.rate, wake),
): Bridge {
  checkOptions("bridge", options, OPTIONS);
  checkContent(options.content);
  const { until, rate, maxMessages = DEFAULT_MESSAGES, maxBytes = DEFAULT_BYTES, emptyForMs } = options;
  if (until !== undefined && until !== "drained" && until !== "stopped") {
    throw new MessagingError("invalid", `bridge { until } takes "drained" or "stopped", not ${String(until)}`);
  }
  if (rate !== undefined) checkRate("bridge { rate }", rate);
  checkInteger("bridge { maxMessages }", maxMessages, 1, 100_000);
  checkInteger("bridge { maxBytes }", maxBytes, 1);
  if (emptyForMs !== undefined) checkInteger("bridge { emptyForMs }", emptyForMs, 0, LONGEST_MS);
  if (options.onProgress !== undefined && typeof options.onProgress !== "function") {
    throw new MessagingError("invalid", "bridge { onProgress } takes a function");
  }
  const internals = internalsOf(from, "bridge(from)");
  const target = internalsOf(to, "bridge(to)");
  return new MessageBridge(internals, target, options, new BridgePrefetch(maxMessages, maxBytes), pace);
}

/** Throws `invalid` unless it is a rate of messages per second. */
export function checkRate(where: string, rate: unknown): void {
  if (typeof rate === "number" && rate > 0 && rate <= HIGHEST_RATE) return;
  throw new MessagingError("invalid", `${where} takes messages per second, above 0 and at most ${HIGHEST_RATE}`);
}

class MessageBridge implements Bridge {
  readonly #from: BrokerInternals;
  readonly #to: BrokerInternals;
  readonly #options: BridgeOptions;
  readonly #ends: BridgeEnds;
  readonly #tally: BridgeTally;
  readonly #prefetch: BridgePrefetch;
  readonly #pacer: Pace;
  #run: BridgeRun | undefined;
  #running: Promise<BridgeResult> | undefined;
  #stopping: AbortController | undefined;
  #state: BridgeStatus["state"] = "new";
  #paused = false;
  #remaining: number | undefined;
  #error: MessagingError | undefined;

  constructor(
    from: BrokerInternals,
    to: BrokerInternals,
    options: BridgeOptions,
    prefetch: BridgePrefetch,
    pace: (wake: () => void) => Pace,
  ) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#ends = endsOf(options, to);
    this.#tally = new BridgeTally(from.clock);
    this.#prefetch = prefetch;
    this.#pacer = pace(() => this.#run?.pump());
  }

  run({ signal }: { readonly signal?: AbortSignal } = {}): Promise<BridgeResult> {
    this.#running ??= this.#move(signal).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async check(): Promise<void> {
    const what = `moving ${addressName(this.#ends.source)}`;
    this.#from.requireStarted(what);
    this.#to.requireStarted(what);
    await refuseItself(this.#from, this.#to, this.#ends);
  }

  async #move(signal: AbortSignal | undefined): Promise<BridgeResult> {
    const { clock } = this.#from;
    const begun = clock.monotonic();
    await this.check();
    const stopping = new AbortController();
    this.#stopping = stopping;
    const asked = signal === undefined ? stopping.signal : AbortSignal.any([signal, stopping.signal]);
    // A broker object that stops takes the messages back.
    const closed = AbortSignal.any([this.#from.stopped(), this.#to.stopped()]);
    const stop = AbortSignal.any([asked, closed]);
    const emptiness = new Emptiness(this.#from, this.#ends.source, this.#options.emptyForMs ?? DEFAULT_EMPTY_FOR_MS);
    this.#error = undefined;
    this.#tally.begin();
    const run = new BridgeRun({
      from: this.#from,
      to: this.#to,
      ends: this.#ends,
      tally: this.#tally,
      prefetch: this.#prefetch,
      pacer: this.#pacer,
      stop,
      moved: () => emptiness.reset(),
      failed: (error) => {
        this.#error ??= error;
        this.#stopping?.abort();
      },
    });
    let drained = false;
    try {
      await run.open();
      this.#run = run;
      this.#state = "running";
      if (this.#paused) this.pause();
      drained = await this.#watch(run, emptiness, stop);
      if (!drained && closed.aborted && !asked.aborted) this.#error ??= stoppedEarly(this.#ends);
    } finally {
      await run.close();
      this.#run = undefined;
      this.#state = "ended";
      this.#reportProgress();
    }
    const { moved, repeated, left, filtered, leftMessages } = this.#tally;
    const end = this.#error !== undefined ? "failed" : drained ? "drained" : "stopped";
    const durationMs = clock.monotonic() - begun;
    const error = this.#error;
    return { end, moved, repeated, left, filtered, leftMessages: [...leftMessages], durationMs, error };
  }

  /** Waits until the source is empty, or the run is stopped. Resolves with whether it is empty. */
  async #watch(run: BridgeRun, emptiness: Emptiness, stop: AbortSignal): Promise<boolean> {
    const { clock } = this.#from;
    let reportedAt = clock.monotonic();
    while (!stop.aborted) {
      await pause(clock, emptiness.everyMs, stop);
      if (clock.monotonic() - reportedAt >= PROGRESS_MS) {
        reportedAt = clock.monotonic();
        if (run.held > run.left) await this.#checkEmpty(run, emptiness);
        this.#reportProgress();
      }
      if (this.#paused || run.held > run.left || stop.aborted) continue;
      const empty = await this.#checkEmpty(run, emptiness);
      if (empty && run.held === run.left && this.#options.until !== "stopped") return true;
    }
    return false;
  }

  async #checkEmpty(run: BridgeRun, emptiness: Emptiness): Promise<boolean> {
    try {
      const { remaining, empty } = await emptiness.read(run.left);
      this.#remaining = remaining;
      return empty;
    } catch (error) {
      // The broker is unreachable for now. Permanent failures are reported by the receiver.
      if (!isMessagingError(error, "not-found")) return false;
      this.#error ??= error;
      this.#stopping?.abort();
      return false;
    }
  }

  pause(): void {
    this.#paused = true;
    this.#run?.pause(true);
    if (this.#state === "running") this.#state = "paused";
  }

  resume(): void {
    this.#paused = false;
    this.#run?.pause(false);
    if (this.#state === "paused") this.#state = "running";
  }

  setRate(rate: number | undefined): void {
    if (rate !== undefined) checkRate("setRate(rate)", rate);
    this.#pacer.setRate(rate);
    this.#run?.pump();
  }

  async stop(): Promise<void> {
    this.#stopping?.abort();
    await this.#running?.catch(() => undefined);
  }

  status(): BridgeStatus {
    const { moved, repeated, left, filtered } = this.#tally;
    return {
      source: addressName(this.#ends.source),
      target: addressName(this.#ends.target),
      state: this.#state,
      moved,
      repeated,
      inHand: (this.#run?.held ?? 0) - (this.#run?.left ?? 0),
      left,
      filtered,
      remaining: this.#remaining,
      rate: this.#tally.rate(),
      stalled: this.#run?.stalled,
    };
  }

  #reportProgress(): void {
    observe(this.#options.onProgress, this.status());
  }
}

function stoppedEarly({ source }: BridgeEnds): MessagingError {
  const what = `a broker object was stopped while ${addressName(source)} was moved`;
  return new MessagingError("closed", `${what}; start both, and run the bridge again to continue`);
}

/** The result of one depth request. */
export interface Reading {
  /** Ready messages, and those in flight if the broker reports them, without those that the caller keeps. */
  readonly remaining: number;
  /** Whether it was empty often enough, or for long enough. */
  readonly empty: boolean;
  /** Whether messages in flight are counted. */
  readonly whole: boolean;
}

const INEXACT_READINGS = 3;

const LEASED_READINGS = 4;

/**
 * Detects that an address is empty. An exact broker must report it once. A broker that counts late, such as RabbitMQ, must
 * report it three times. A broker that estimates, such as SQS, must report it throughout `emptyForMs`.
 */
export class Emptiness {
  readonly #internals: BrokerInternals;
  readonly #address: Address;
  readonly #emptyForMs: number;
  #zeros = 0;
  #since = 0;
  #exact = true;

  constructor(internals: BrokerInternals, address: Address, emptyForMs: number) {
    this.#internals = internals;
    this.#address = address;
    this.#emptyForMs = emptyForMs;
  }

  /** The time until the next reading. */
  get everyMs(): number {
    if (this.#exact) return 20;
    return this.#isLeased ? this.#emptyForMs / LEASED_READINGS : 100;
  }

  get #isLeased(): boolean {
    return this.#internals.adapter.capabilities.lease.support !== "unsupported";
  }

  /** A message arrived or was removed: starts over. */
  reset(): void {
    this.#zeros = 0;
  }

  /** Whether the broker estimates, by one request. Rejects as `depth` does. */
  async isEstimated(): Promise<boolean> {
    return this.#isLeased && !(await this.#internals.adapter.depth(this.#address)).exact;
  }

  /** Requests the depth, and subtracts the `kept` messages of the caller. Rejects as `depth` does. */
  async read(kept = 0): Promise<Reading> {
    const { adapter, clock } = this.#internals;
    const { ready, unsettled, exact } = await adapter.depth(this.#address);
    this.#exact = exact;
    const whole = unsettled !== undefined;
    const remaining = Math.max(ready + (unsettled ?? 0) - kept, 0);
    if (remaining > 0) {
      this.#zeros = 0;
      return { remaining, empty: false, whole };
    }
    if (this.#zeros++ === 0) this.#since = clock.monotonic();
    const lasted = clock.monotonic() - this.#since;
    const empty = exact || (this.#isLeased ? lasted >= this.#emptyForMs : this.#zeros >= INEXACT_READINGS);
    return { remaining, empty, whole };
  }
}

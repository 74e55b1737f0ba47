import { checkInteger, checkOptions, clockOf, randomOf } from "../../core/checks.ts";
import type { Clock, Random } from "../../core/clock.ts";
import {
  type Delivery,
  type Handler,
  type HandlerResult,
  type Middleware,
  outcomeKind,
  postpone,
} from "../../core/delivery.ts";
import { observe, unawaited } from "../../core/foreign.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { type Intake, type IntakeControl, IntakeGroup } from "./control-intake.ts";
import { checkFunction, checkShare } from "./options.ts";

/** `closed`: messages flow. `open`: none is started. `half-open`: one at a time, to see. */
export type CircuitState = "closed" | "open" | "half-open";

/** A change of a circuit breaker's state, for {@link CircuitBreakerOptions.onChange}. */
export interface CircuitChange {
  readonly from: CircuitState;
  readonly to: CircuitState;
  readonly at: Date;
  /** The calls that were counted when it changed, and how many of them had failed. */
  readonly calls: number;
  readonly failures: number;
  /** When it is tried again, after a change to `open`. */
  readonly probeAt: Date | undefined;
}

/** The options of `circuitBreaker`. */
export interface CircuitBreakerOptions {
  /**
   * Whether a failure speaks of the dependency, and not of the message: refused connections, timeouts, answers such as
   * 503. Given what the handler threw, the `retry()` it returned, or, for a handler that overran the consumer's
   * `timeoutMs`, a `MessagingError` of code `timeout`. Everything else is left to the consumer's retry policy. Must not
   * throw; if it does, the failure does not count.
   */
  readonly isOutage: (failure: unknown) => boolean;
  /** Opens at this share of failures, above 0 and up to 1. Default 0.5. */
  readonly failureRate?: number;
  /** How many calls must have been counted before the share means anything. Default 10. */
  readonly minimumCalls?: number;
  /** The share is that of the last so many calls. Default 50. */
  readonly windowCalls?: number;
  /** Calls older than so many milliseconds do not count. Default 60,000. */
  readonly windowMs?: number;
  /**
   * Opens after so many failures in a row, whatever the share. Choose no more than the consumer's `retry.attempts`: then
   * a message that is alone on its queue, or with its key, is not dead-lettered before it opens. Default 5, as there.
   */
  readonly consecutiveFailures?: number;
  /**
   * How long it stays open the first time, in milliseconds; doubled with each probe that fails. Half of the time is
   * certain and half is chance, so that processes do not all probe together. Default 5,000.
   */
  readonly openMs?: number;
  /** The longest it stays open before the next probe, in milliseconds. Default 60,000. */
  readonly maxOpenMs?: number;
  /** How many probes in a row must succeed to close it. Default 3. */
  readonly probes?: number;
  /** Told of every change. What it throws is ignored. */
  readonly onChange?: (change: CircuitChange) => void;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Default: the operating system's. */
  readonly random?: Random;
}

/** Options with nothing left open. */
type CircuitSettings = Required<CircuitBreakerOptions>;

const NAMES = [
  "isOutage",
  "failureRate",
  "minimumCalls",
  "windowCalls",
  "windowMs",
  "consecutiveFailures",
  "openMs",
  "maxOpenMs",
  "probes",
  "onChange",
  "clock",
  "random",
];

/** Fills in the defaults; throws `invalid` for what makes no sense. */
function circuitSettings(options: CircuitBreakerOptions): CircuitSettings {
  checkOptions("circuitBreaker", options, NAMES);
  const settings: CircuitSettings = {
    isOutage: options.isOutage,
    failureRate: options.failureRate ?? 0.5,
    minimumCalls: options.minimumCalls ?? 10,
    windowCalls: options.windowCalls ?? Math.max(50, options.minimumCalls ?? 0),
    windowMs: options.windowMs ?? 60_000,
    consecutiveFailures: options.consecutiveFailures ?? 5,
    openMs: options.openMs ?? 5_000,
    maxOpenMs: options.maxOpenMs ?? Math.max(60_000, options.openMs ?? 0),
    probes: options.probes ?? 3,
    onChange: options.onChange ?? (() => {}),
    clock: clockOf("circuitBreaker { clock }", options.clock),
    random: randomOf("circuitBreaker { random }", options.random),
  };
  checkFunction("circuitBreaker { isOutage }", settings.isOutage);
  checkFunction("circuitBreaker { onChange }", settings.onChange);
  checkShare("circuitBreaker { failureRate }", settings.failureRate, Number.MIN_VALUE, 1);
  checkInteger("circuitBreaker { windowCalls }", settings.windowCalls, 1);
  checkInteger("circuitBreaker { minimumCalls }", settings.minimumCalls, 1, settings.windowCalls);
  checkInteger("circuitBreaker { windowMs }", settings.windowMs, 1);
  checkInteger("circuitBreaker { consecutiveFailures }", settings.consecutiveFailures, 1);
  checkInteger("circuitBreaker { openMs }", settings.openMs, 1);
  checkInteger("circuitBreaker { maxOpenMs }", settings.maxOpenMs, settings.openMs);
  checkInteger("circuitBreaker { probes }", settings.probes, 1);
  return settings;
}

/** What the calls of late came to. */
interface FailureCount {
  readonly calls: number;
  readonly failures: number;
}

interface Call {
  readonly at: number;
  readonly failed: boolean;
}

/** The last calls, so many at most and none older than `maxAgeMs`: the count-based sliding window of Resilience4j, aged. */
class FailureWindow {
  readonly #most: number;
  readonly #maxAgeMs: number;
  /** A ring: the oldest stands at `#first`. */
  readonly #calls: Call[] = [];
  #first = 0;
  #size = 0;
  #failures = 0;

  constructor(most: number, maxAgeMs: number) {
    this.#most = most;
    this.#maxAgeMs = maxAgeMs;
  }

  record(now: number, failed: boolean): void {
    if (this.#size === this.#most) this.#drop();
    this.#calls[(this.#first + this.#size) % this.#most] = { at: now, failed };
    this.#size++;
    if (failed) this.#failures++;
  }

  count(now: number): FailureCount {
    while (this.#size > 0 && now - (this.#calls[this.#first] as Call).at > this.#maxAgeMs) this.#drop();
    return { calls: this.#size, failures: this.#failures };
  }

  clear(): void {
    this.#size = 0;
    this.#failures = 0;
  }

  #drop(): void {
    if ((this.#calls[this.#first] as Call).failed) this.#failures--;
    this.#first = (this.#first + 1) % this.#most;
    this.#size--;
  }
}

/** How long a message waits that came while another was the probe. */
const BESIDE_PROBE_MS = 1_000;

/** A snapshot of a circuit breaker. */
export interface CircuitStatus {
  readonly state: CircuitState;
  /** Since when. */
  readonly since: Date;
  /** Calls of late that counted, and how many of them failed. */
  readonly calls: number;
  readonly failures: number;
  /** How often it has opened since it was made, failed probes included. */
  readonly openings: number;
  /** When it is tried again; undefined unless it is open. */
  readonly probeAt: Date | undefined;
}

/** A circuit breaker for consumers; made by {@link circuitBreaker}. */
export interface CircuitBreaker extends IntakeControl {
  status(): CircuitStatus;
}

/**
 * Stops taking messages while what the handler depends on is down, instead of burning their retries; see
 * {@link controlIntake}. Share one object among all consumers of this process that use the same dependency.
 *
 * Closed, it counts how calls end. At `failureRate`, or after `consecutiveFailures`, it opens: intake is held. After
 * `openMs` it is half-open: one message at a time is started, over all its consumers, to see. `probes` successes in a row
 * close it; one failure opens it again, for twice as long. After the states of M. Nygard, "Release It!" (2007), and the
 * sliding window of Resilience4j.
 *
 * A failure that counts uses up an attempt only while the circuit stays closed. The one that opens it, those of handlers
 * that were running then, and failed probes are postponed: however long the outage, no message is dead-lettered for it. So
 * `isOutage` must not hold for what is wrong with a message itself: such a message would come again for ever.
 * Handlers that overrun the consumer's `timeoutMs` are counted here, but their attempt has failed: give calls to the
 * dependency a shorter timeout of their own. Throws `invalid` for wrong options.
 */
export function circuitBreaker(options: CircuitBreakerOptions): CircuitBreaker {
  return new Circuit(circuitSettings(options));
}

class Circuit implements CircuitBreaker {
  readonly #settings: CircuitSettings;
  readonly #window: FailureWindow;
  readonly #group: IntakeGroup;
  #state: CircuitState = "closed";
  #since: number;
  /** When an open circuit is to be tried, in monotonic milliseconds. */
  #openUntil = 0;
  #inARow = 0;
  #openings = 0;
  /** Openings since it was last closed. */
  #failedRounds = 0;
  #goodProbes = 0;
  /** The probe under way. */
  #probe: object | undefined;

  constructor(settings: CircuitSettings) {
    this.#settings = settings;
    this.#window = new FailureWindow(settings.windowCalls, settings.windowMs);
    this.#group = new IntakeGroup(settings.clock);
    this.#since = settings.clock.now();
  }

  control(intake: Intake): Middleware {
    this.#group.add(intake);
    return (next) => (body, delivery) => this.#run(next, body, delivery);
  }

  status(): CircuitStatus {
    const { clock } = this.#settings;
    const { calls, failures } = this.#window.count(clock.monotonic());
    const probeAt = this.#state === "open" ? new Date(clock.now() + this.#openForMs()) : undefined;
    return {
      state: this.#state,
      since: new Date(this.#since),
      calls,
      failures,
      openings: this.#openings,
      probeAt,
    };
  }

  #openForMs(): number {
    return Math.max(Math.ceil(this.#openUntil - this.#settings.clock.monotonic()), 0);
  }

  #run(next: Handler<unknown>, body: unknown, delivery: Delivery): HandlerResult | Promise<HandlerResult> {
    if (this.#state === "closed") return this.#call(next, body, delivery, undefined);
    if (this.#state === "open") {
      const openForMs = this.#openForMs();
      // It was started beside the one that opened it, or its consumer was stopped and started again.
      if (openForMs > 0) {
        this.#hold();
        return postpone({ afterMs: openForMs });
      }
      this.#halfOpen();
    }
    if (this.#probe !== undefined) return postpone({ afterMs: BESIDE_PROBE_MS });
    const probe = {};
    this.#probe = probe;
    this.#group.allow(0);
    return this.#call(next, body, delivery, probe);
  }

  async #call(next: Handler<unknown>, body: unknown, delivery: Delivery, probe: object | undefined) {
    const { signal } = delivery;
    const aborted = (): void => this.#aborted(signal.reason, probe);
    if (signal.aborted) aborted();
    else signal.addEventListener("abort", aborted, { once: true });
    try {
      const result = await next(body, delivery);
      if (signal.aborted) return result;
      return this.#ended(result, probe);
    } catch (error) {
      if (signal.aborted || !this.#isOutage(error)) {
        if (!signal.aborted) this.#unknown(probe);
        throw error;
      }
      this.#failed(probe);
      if (this.#state === "closed") throw error;
      return this.#postponed();
    } finally {
      signal.removeEventListener("abort", aborted);
    }
  }

  #ended(result: HandlerResult, probe: object | undefined): HandlerResult {
    const kind = outcomeKind(result);
    if (kind === "retry" && this.#isOutage(result)) {
      this.#failed(probe);
      return this.#state === "closed" ? result : this.#postponed();
    }
    // An outcome that is no outage says nothing about the dependency.
    if (kind === undefined) this.#succeeded(probe);
    else this.#unknown(probe);
    return result;
  }

  #postponed(): HandlerResult {
    return postpone({ afterMs: this.#openForMs() });
  }

  /** The handler's work is not wanted any more: its deadline has passed, or its delivery is gone, or there is a stop. */
  #aborted(reason: unknown, probe: object | undefined): void {
    if (this.#isOutage(reason)) this.#failed(probe);
    else this.#unknown(probe);
  }

  #isOutage(failure: unknown): boolean {
    try {
      return unawaited<unknown>(this.#settings.isOutage(failure)) === true;
    } catch {
      return false;
    }
  }

  #succeeded(probe: object | undefined): void {
    if (this.#state === "closed" && probe === undefined) {
      this.#inARow = 0;
      this.#window.record(this.#settings.clock.monotonic(), false);
    } else if (this.#takeProbe(probe)) {
      this.#goodProbes++;
      if (this.#goodProbes >= this.#settings.probes) this.#close();
      else this.#group.allow(1);
    }
  }

  #failed(probe: object | undefined): void {
    if (this.#state === "closed" && probe === undefined) {
      this.#inARow++;
      const now = this.#settings.clock.monotonic();
      this.#window.record(now, true);
      const { calls, failures } = this.#window.count(now);
      const { minimumCalls, failureRate, consecutiveFailures } = this.#settings;
      const byRate = calls >= minimumCalls && failures >= failureRate * calls;
      if (byRate || this.#inARow >= consecutiveFailures) this.#open();
    } else if (this.#takeProbe(probe)) {
      this.#open();
    }
  }

  /** It ended in a way that tells nothing: the next one is the probe. */
  #unknown(probe: object | undefined): void {
    if (this.#takeProbe(probe)) this.#group.allow(1);
  }

  /** Whether this was the probe under way, which is over now. */
  #takeProbe(probe: object | undefined): boolean {
    if (probe === undefined || this.#probe !== probe) return false;
    this.#probe = undefined;
    return true;
  }

  #open(): void {
    const { clock, random, openMs, maxOpenMs } = this.#settings;
    this.#openings++;
    this.#failedRounds++;
    const openForMs = backoffMs(this.#failedRounds, { firstMs: openMs, maxMs: maxOpenMs }, random);
    this.#openUntil = clock.monotonic() + openForMs;
    this.#change("open");
    this.#hold();
  }

  #hold(): void {
    this.#group.holdUntil(this.#openUntil, () => this.#halfOpen());
  }

  #halfOpen(): void {
    this.#goodProbes = 0;
    this.#change("half-open");
    this.#group.allow(1);
  }

  #close(): void {
    this.#window.clear();
    this.#inARow = 0;
    this.#failedRounds = 0;
    this.#change("closed");
    this.#group.allow(undefined);
  }

  #change(to: CircuitState): void {
    const from = this.#state;
    const { clock, onChange } = this.#settings;
    const { calls, failures } = this.#window.count(clock.monotonic());
    this.#state = to;
    this.#since = clock.now();
    const probeAt = to === "open" ? new Date(clock.now() + this.#openForMs()) : undefined;
    observe(onChange, { from, to, at: new Date(this.#since), calls, failures, probeAt });
  }
}

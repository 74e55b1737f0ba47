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

/** `closed`: messages flow. `open`: no handler starts. `half-open`: one message at a time is tried. */
export type CircuitState = "closed" | "open" | "half-open";

/** A change of a circuit breaker's state, for {@link CircuitBreakerOptions.onChange}. */
export interface CircuitChange {
  readonly from: CircuitState;
  readonly to: CircuitState;
  readonly at: Date;
  /** The counted calls at the change, and how many of them failed. */
  readonly calls: number;
  readonly failures: number;
  /** When the next probe starts; only for a change to `open`. */
  readonly probeAt: Date | undefined;
}

/** The options of {@link circuitBreaker}. */
export interface CircuitBreakerOptions {
  /**
   * Returns whether a failure comes from the dependency, not from the message: refused connections, timeouts, status 503.
   * Its argument is the thrown error, the returned `retry()`, or, for a handler that overran the consumer's `timeoutMs`,
   * a `MessagingError` with code `timeout`. Other failures are left to the consumer's retry policy. If it throws, the
   * failure does not count.
   */
  readonly isOutage: (failure: unknown) => boolean;
  /** The share of failures that opens the circuit, above 0 and up to 1. Default 0.5. */
  readonly failureRate?: number;
  /** The least number of counted calls before `failureRate` applies. Default 10. */
  readonly minimumCalls?: number;
  /** How many of the last calls are counted. Default 50. */
  readonly windowCalls?: number;
  /** Calls older than this do not count, in milliseconds. Default 60,000. */
  readonly windowMs?: number;
  /**
   * Failures in a row that open the circuit at any rate. Use no more than the consumer's `retry.attempts`: then a
   * message that is alone on its queue, or with its key, is not dead-lettered before the circuit opens. Default 5.
   */
  readonly consecutiveFailures?: number;
  /**
   * How long the circuit first stays open, in milliseconds; doubled after each failed probe. Half of the time is random,
   * so that processes do not probe together. Default 5,000.
   */
  readonly openMs?: number;
  /** The longest time before the next probe, in milliseconds. Default 60,000. */
  readonly maxOpenMs?: number;
  /** Successful probes in a row that close the circuit. Default 3. */
  readonly probes?: number;
  /** Called at every change. What it throws is ignored. */
  readonly onChange?: (change: CircuitChange) => void;
  /** Default: the system clock. */
  readonly clock?: Clock;
  /** Default: the operating system's random numbers. */
  readonly random?: Random;
}

/** The options with their defaults. */
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

/** Fills in the defaults. Throws `invalid`. */
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

/** The counted calls and their failures. */
interface FailureCount {
  readonly calls: number;
  readonly failures: number;
}

interface Call {
  readonly at: number;
  readonly failed: boolean;
}

/** The last calls, limited by number and age: Resilience4j's count-based sliding window with an age limit. */
class FailureWindow {
  readonly #most: number;
  readonly #maxAgeMs: number;
  /** A ring buffer. The oldest call is at `#first`. */
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

/** The delay of a message that arrives while another one is the probe. */
const BESIDE_PROBE_MS = 1_000;

/** A snapshot of a circuit breaker. */
export interface CircuitStatus {
  readonly state: CircuitState;
  /** When this state began. */
  readonly since: Date;
  /** The counted calls, and how many of them failed. */
  readonly calls: number;
  readonly failures: number;
  /** How often it opened since it was made, failed probes included. */
  readonly openings: number;
  /** When the next probe starts; undefined unless it is open. */
  readonly probeAt: Date | undefined;
}

/** A circuit breaker for consumers; made by {@link circuitBreaker}. */
export interface CircuitBreaker extends IntakeControl {
  status(): CircuitStatus;
}

/**
 * Stops intake while a dependency of the handler fails, so that messages do not use up their attempts. Use it with
 * {@link controlIntake}, and share one object among all consumers of this process that use the dependency.
 *
 * - `closed`: counts results. Opens at `failureRate`, or after `consecutiveFailures`.
 * - `open`: no handler starts for `openMs`.
 * - `half-open`: one message at a time is the probe, over all consumers. `probes` successes in a row close the circuit.
 *   A failed probe opens it for twice as long.
 *
 * An outage uses up attempts only while the circuit is closed. The message that opens it, messages in handlers at that
 * time, and failed probes are postponed. So no outage dead-letters a message, however long it lasts. `isOutage` must
 * therefore be false for failures of the message itself: such a message would return for ever.
 *
 * A handler that overruns the consumer's `timeoutMs` counts as a failure, but uses up its attempt: give calls to the
 * dependency a shorter timeout. States as in M. Nygard, "Release It!". Throws `invalid` for wrong options.
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
  /** When the next probe starts, in monotonic milliseconds. */
  #openUntil = 0;
  #inARow = 0;
  #openings = 0;
  /** Openings since the circuit was last closed. */
  #failedRounds = 0;
  #goodProbes = 0;
  /** The probe in progress. */
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
      // A handler that started before the circuit opened, or a consumer that was restarted.
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
    // Other outcomes say nothing about the dependency.
    if (kind === undefined) this.#succeeded(probe);
    else this.#unknown(probe);
    return result;
  }

  #postponed(): HandlerResult {
    return postpone({ afterMs: this.#openForMs() });
  }

  /** The deadline passed, the delivery was lost, or the consumer stops. */
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

  /** The call says nothing about the dependency. The next one becomes the probe. */
  #unknown(probe: object | undefined): void {
    if (this.#takeProbe(probe)) this.#group.allow(1);
  }

  /** Whether this call is the probe. Ends the probe. */
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

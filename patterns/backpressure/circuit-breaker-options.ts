import { checkInteger, checkOptions, clockOf, randomOf } from "../../core/checks.ts";
import type { Clock, Random } from "../../core/index.ts";
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
   * a message that is alone on its queue, or in its lane, is not dead-lettered before it opens. Default 5, as there.
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
export type CircuitSettings = Required<CircuitBreakerOptions>;

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
export function circuitSettings(options: CircuitBreakerOptions): CircuitSettings {
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

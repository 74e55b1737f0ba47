import type { Random } from "../clock.ts";
import { MessagingError } from "../errors.ts";
import { checkInteger, checkOptions } from "../names.ts";
import type { RetryPolicy } from "../options.ts";

const DEFAULT_ATTEMPTS = 5;
const DEFAULT_FIRST_MS = 1_000;
const DEFAULT_FACTOR = 2;
const DEFAULT_MAX_MS = 60_000;
const DEFAULT_JITTER = 1;

/** A retry policy with nothing left open. */
export interface Retry {
  readonly attempts: number;
  /**
   * The delay after the given failed attempt, 1 for the first: exponential, with jitter on top of it. By default as much
   * time as the delay itself is drawn at random, the spread of "full jitter" (Marc Brooker, "Exponential Backoff and
   * Jitter", AWS Architecture Blog, 2015). That draws from zero up; here the delay is a promise, never cut short, and what
   * is drawn comes on top.
   */
  delayMs(attempt: number): number;
}

/** Fills in the defaults; throws `invalid` for what makes no sense. */
export function retryPolicy(where: string, policy: RetryPolicy, random: Random): Retry {
  checkOptions(`${where} { retry }`, policy, ["attempts", "delay"]);
  const { attempts = DEFAULT_ATTEMPTS, delay = {} } = policy;
  checkInteger(`${where} { retry.attempts }`, attempts, 1);
  checkOptions(`${where} { retry.delay }`, delay, ["firstMs", "factor", "maxMs", "jitter"]);
  const {
    firstMs = DEFAULT_FIRST_MS,
    factor = DEFAULT_FACTOR,
    maxMs = DEFAULT_MAX_MS,
    jitter = DEFAULT_JITTER,
  } = delay;
  checkInteger(`${where} { retry.delay.firstMs }`, firstMs, 0);
  checkInteger(`${where} { retry.delay.maxMs }`, maxMs, 0);
  if (!(Number.isFinite(factor) && factor >= 1)) {
    throw new MessagingError("invalid", `${where} { retry.delay.factor } takes a number from 1 up, not ${factor}`);
  }
  if (!(jitter >= 0 && jitter <= 1)) {
    throw new MessagingError("invalid", `${where} { retry.delay.jitter } takes a number from 0 to 1, not ${jitter}`);
  }
  return {
    attempts,
    delayMs(attempt) {
      // The power is infinite one day, and zero times infinity is no number.
      const delayMs = firstMs === 0 ? 0 : Math.min(firstMs * factor ** (attempt - 1), maxMs);
      return Math.ceil(delayMs * (1 + jitter * random.fraction()));
    },
  };
}

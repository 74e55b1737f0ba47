import { checkInteger, checkOptions, LONGEST_MS } from "./checks.ts";
import type { Random } from "./clock.ts";
import { MessagingError } from "./errors.ts";
import { ignoreRejection, thrownClass } from "./foreign.ts";

/** Growing delays between attempts. */
export interface RetryDelay {
  /** The delay after the first failed attempt, in milliseconds. Default 1,000, or `maxMs` if that is less. */
  readonly firstMs?: number;
  /** What each delay is multiplied by for the next. Default 2. */
  readonly factor?: number;
  /** The longest delay, in milliseconds, before jitter; `firstMs` at least. Default 60,000, or `firstMs` if that is more. */
  readonly maxMs?: number;
  /**
   * The most random time that is added to a delay, as a share of it from 0 to 1. It spreads messages that failed together.
   * Delays of `retry({ afterMs })` get none. Default 1: up to twice the delay. 0 turns it off.
   */
  readonly jitter?: number;
}

/** How often and when a failing message is tried. Attempts are counted over restarts of processes and brokers. */
export interface RetryPolicy {
  /** The most attempts before a message is dead-lettered. 1 means no retry. Default 5; for a list of delays, its length + 1. */
  readonly attempts?: number;
  /**
   * How long a message waits after a failed attempt. Default: 1 s, doubled up to 60 s, with jitter.
   *
   * - A list has the delay of each retry, in milliseconds; the last one counts for all further retries.
   * - A function gets the number of the failed attempt, from 1 up, and returns milliseconds. If it throws or returns
   *   anything else, a `notice` reports it and the default delay is used.
   *
   * Lists and functions get no jitter.
   */
  readonly delay?: RetryDelay | readonly number[] | ((attempt: number) => number);
}

/** How long to wait between attempts, in milliseconds: the first wait, doubled up to the longest. */
export interface BackoffTimes {
  readonly firstMs: number;
  readonly maxMs: number;
}

const MOST_DOUBLINGS = 30;

/**
 * The wait after a number of failures in a row, in milliseconds. Half of it is random, so that callers that failed
 * together do not come back together.
 */
export function backoffMs(
  failures: number,
  { firstMs, maxMs }: BackoffTimes,
  random: Pick<Random, "fraction"> = { fraction: Math.random },
): number {
  const doublings = Math.min(Math.max(failures - 1, 0), MOST_DOUBLINGS);
  return Math.min(maxMs, firstMs * 2 ** doublings) * (0.5 + random.fraction() / 2);
}

const DEFAULT_ATTEMPTS = 5;
const DEFAULT_FIRST_MS = 1_000;
const DEFAULT_FACTOR = 2;
const DEFAULT_MAX_MS = 60_000;
const DEFAULT_JITTER = 1;

/** A retry policy with all defaults filled in. */
export interface Retry {
  readonly attempts: number;
  /** The delay after the given failed attempt, 1 for the first, in whole milliseconds. */
  delayMs(attempt: number): number;
}

/** The surroundings of a retry policy. */
interface RetryContext {
  readonly random: Random;
  /** The attempts of a policy that sets none. Default 5. */
  readonly attempts?: number;
  /** Is called with what a delay function does wrong. */
  notice(error: MessagingError): void;
}

type DelayMs = Retry["delayMs"];

/** Fills in the defaults. Throws `invalid` for wrong options. */
export function retryPolicy(where: string, policy: RetryPolicy, context: RetryContext): Retry {
  checkOptions(`${where} { retry }`, policy, ["attempts", "delay"]);
  const { delay = {} } = policy;
  const usual = Array.isArray(delay) ? delay.length + 1 : (context.attempts ?? DEFAULT_ATTEMPTS);
  const { attempts = usual } = policy;
  checkInteger(`${where} { retry.attempts }`, attempts, 1);
  const delayMs = delayOf(where, delay, context);
  return { attempts, delayMs: (attempt) => Math.min(delayMs(attempt), LONGEST_MS) };
}

function delayOf(where: string, delay: NonNullable<RetryPolicy["delay"]>, { random, notice }: RetryContext): DelayMs {
  if (typeof delay === "function") return byFunction(where, delay, exponential(where, {}, random), notice);
  if (isList(delay)) return listed(where, delay);
  if (typeof delay === "object" && delay !== null) return exponential(where, delay, random);
  throw new MessagingError(
    "invalid",
    `${where} { retry.delay } takes an object, as in { firstMs: 1_000 }, a list of milliseconds, or a function, not ${String(delay)}`,
  );
}

function isList(delay: RetryDelay | readonly number[]): delay is readonly number[] {
  return Array.isArray(delay);
}

function listed(where: string, given: readonly number[]): DelayMs {
  const delays = [...given];
  const last = delays.at(-1);
  if (last === undefined) {
    throw new MessagingError(
      "invalid",
      `${where} { retry.delay } takes at least one delay in a list; for no retry give { attempts: 1 }`,
    );
  }
  for (const [index, ms] of delays.entries()) checkInteger(`${where} { retry.delay[${index}] }`, ms, 0, LONGEST_MS);
  return (attempt) => delays[attempt - 1] ?? last;
}

function byFunction(
  where: string,
  ask: (attempt: number) => unknown,
  otherwise: DelayMs,
  notice: RetryContext["notice"],
): DelayMs {
  const wrong = (attempt: number, what: string, cause?: unknown): number => {
    const next = "the default delay is waited; let it return milliseconds";
    notice(
      new MessagingError("invalid", `${where} { retry.delay } ${what} for attempt ${attempt}: ${next}`, { cause }),
    );
    return otherwise(attempt);
  };
  return (attempt) => {
    let ms: unknown;
    try {
      ms = ask(attempt);
    } catch (cause) {
      return wrong(attempt, `threw ${thrownClass(cause)}`, cause);
    }
    if (typeof ms === "number" && Number.isFinite(ms) && ms >= 0) return Math.ceil(ms);
    ignoreRejection(ms);
    return wrong(attempt, `returned ${typeof ms === "number" ? ms : `a value of type ${typeof ms}`}`);
  };
}

/**
 * Exponential delays with jitter on top. The default jitter is up to the delay itself, the spread of "full jitter" (Marc
 * Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). Full jitter draws from zero up; here it is
 * added, because a delay is never cut short.
 */
function exponential(where: string, delay: RetryDelay, random: Random): DelayMs {
  checkOptions(`${where} { retry.delay }`, delay, ["firstMs", "factor", "maxMs", "jitter"]);
  const { factor = DEFAULT_FACTOR, jitter = DEFAULT_JITTER } = delay;
  const { firstMs = Math.min(DEFAULT_FIRST_MS, delay.maxMs ?? DEFAULT_FIRST_MS) } = delay;
  const { maxMs = Math.max(DEFAULT_MAX_MS, firstMs) } = delay;
  checkInteger(`${where} { retry.delay.firstMs }`, firstMs, 0);
  checkInteger(`${where} { retry.delay.maxMs }`, maxMs, 0);
  if (firstMs > maxMs) {
    const what = `${where} { retry.delay.firstMs } is ${firstMs}, and maxMs, the longest delay, is ${maxMs}`;
    throw new MessagingError("invalid", `${what}: raise maxMs, or lower firstMs`);
  }
  if (!(Number.isFinite(factor) && factor >= 1)) {
    throw new MessagingError("invalid", `${where} { retry.delay.factor } takes a number from 1 up, not ${factor}`);
  }
  if (!(jitter >= 0 && jitter <= 1)) {
    throw new MessagingError("invalid", `${where} { retry.delay.jitter } takes a number from 0 to 1, not ${jitter}`);
  }
  return (attempt) => {
    // The power may become infinite, and zero times infinity is NaN.
    const delayMs = firstMs === 0 ? 0 : Math.min(firstMs * factor ** (attempt - 1), maxMs);
    return Math.ceil(delayMs * (1 + jitter * random.fraction()));
  };
}

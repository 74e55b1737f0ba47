import { checkInteger, checkOptions, clockOf, randomOf } from "../../core/checks.ts";
import type { Clock, Random } from "../../core/clock.ts";
import { type Middleware, postpone } from "../../core/delivery.ts";
import { WindowedSum } from "./handling-meter.ts";
import { checkPositive, checkShare } from "./options.ts";

/** Ten times 0.1 is slightly less than 1 in floating point. */
const ALMOST_ONE = 1 - 1e-9;

/** The options of {@link retryBudget}. */
export interface RetryBudgetOptions {
  /** How many retries each first attempt in the window allows, from 0 to 10. Default 0.2: one for five. */
  readonly ratio?: number;
  /** Additional retries per second, so that consumers with little traffic retry too; above 0. Default 1. */
  readonly minPerSecond?: number;
  /** How long a first attempt counts, in milliseconds. Default 10,000. */
  readonly windowMs?: number;
  /** The longest postponement of a retry, in milliseconds. Default 60,000. */
  readonly maxWaitMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
  /** Default: the operating system's random numbers. */
  readonly random?: Random;
}

/** A snapshot of a retry budget. */
export interface RetryBudgetStatus {
  /** How many retries would be allowed now. */
  readonly balance: number;
  /** First attempts and allowed retries since it was made. */
  readonly firstAttempts: number;
  readonly retries: number;
  /** Postponed retries. */
  readonly postponed: number;
}

/** A retry budget; made by {@link retryBudget}. */
export interface RetryBudget {
  /** Goes into `use` of one consumer, or of several that share the budget. */
  readonly middleware: Middleware;
  status(): RetryBudgetStatus;
}

/**
 * Limits retries: in any `windowMs` at most `ratio` retries per first attempt, plus `minPerSecond`. This is Finagle's
 * `RetryBudget`, except that a retry over the budget is postponed. It uses up no attempt. Postponed messages return at
 * about `minPerSecond`. On an ordered destination the key waits.
 *
 * Every attempt after the first counts as a retry, also after a crash of a consumer. Each process has its own budget.
 * Throws `invalid` for wrong options.
 */
export function retryBudget(options: RetryBudgetOptions = {}): RetryBudget {
  checkOptions("retryBudget", options, ["ratio", "minPerSecond", "windowMs", "maxWaitMs", "clock", "random"]);
  const { ratio = 0.2, minPerSecond = 1, windowMs = 10_000, maxWaitMs = 60_000 } = options;
  const clock = clockOf("retryBudget { clock }", options.clock);
  const random = randomOf("retryBudget { random }", options.random);
  checkShare("retryBudget { ratio }", ratio, 0, 10);
  checkPositive("retryBudget { minPerSecond }", minPerSecond);
  checkInteger("retryBudget { windowMs }", windowMs, 1_000);
  checkInteger("retryBudget { maxWaitMs }", maxWaitMs, 1);
  return new Budget({ ratio, minPerSecond, windowMs, maxWaitMs, clock, random });
}

class Budget implements RetryBudget {
  readonly middleware: Middleware;
  readonly #settings: Required<RetryBudgetOptions>;
  /** First attempts add to it, retries subtract. */
  readonly #account: WindowedSum;
  readonly #reserve: number;
  /** When the last postponed retry is due, in monotonic milliseconds. */
  #lastDue = Number.NEGATIVE_INFINITY;
  #firstAttempts = 0;
  #retries = 0;
  #postponed = 0;

  constructor(settings: Required<RetryBudgetOptions>) {
    this.#settings = settings;
    this.#account = new WindowedSum(settings.windowMs);
    // A reserve below 1 would never allow a retry.
    this.#reserve = Math.max((settings.minPerSecond * settings.windowMs) / 1_000, 1);
    this.middleware = (next) => (body, delivery) => {
      const waitMs = this.#admit(delivery.attempt);
      return waitMs === 0 ? next(body, delivery) : postpone({ afterMs: waitMs });
    };
  }

  status(): RetryBudgetStatus {
    const balance = this.#balance(this.#settings.clock.monotonic());
    return {
      balance: Math.max(Math.floor(balance), 0),
      firstAttempts: this.#firstAttempts,
      retries: this.#retries,
      postponed: this.#postponed,
    };
  }

  #balance(now: number): number {
    return this.#reserve + this.#account.sum(now);
  }

  /** 0 to run the handler; otherwise the postponement in milliseconds. */
  #admit(attempt: number): number {
    const now = this.#settings.clock.monotonic();
    if (attempt <= 1) {
      this.#firstAttempts++;
      this.#account.add(now, this.#settings.ratio);
      return 0;
    }
    if (this.#balance(now) > ALMOST_ONE) {
      this.#retries++;
      this.#account.add(now, -1);
      return 0;
    }
    this.#postponed++;
    return this.#waitMs(now);
  }

  /** Spaces postponed retries evenly, with jitter; beyond `maxWaitMs` the time is random. */
  #waitMs(now: number): number {
    const { minPerSecond, maxWaitMs, random } = this.#settings;
    const due = Math.max(this.#lastDue, now) + (1_000 / minPerSecond) * (0.5 + random.fraction());
    if (due - now > maxWaitMs) return Math.ceil(maxWaitMs * (0.5 + random.fraction() / 2));
    this.#lastDue = due;
    return Math.ceil(due - now);
  }
}

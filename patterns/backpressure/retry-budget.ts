import { checkInteger, checkOptions, clockOf, randomOf } from "../../core/checks.ts";
import type { Clock, Random } from "../../core/clock.ts";
import { type Middleware, postpone } from "../../core/delivery.ts";
import { WindowedSum } from "./handling-meter.ts";
import { checkPositive, checkShare } from "./options.ts";

/** Ten tenths are a little less than one, in floating point. */
const ALMOST_ONE = 1 - 1e-9;

/** The options of {@link retryBudget}. */
export interface RetryBudgetOptions {
  /** How many retries each first attempt of late pays for, from 0 to 10. Default 0.2: one for five. */
  readonly ratio?: number;
  /** How many retries per second are allowed besides, so that quiet consumers retry too; above 0. Default 1. */
  readonly minPerSecond?: number;
  /** How long a first attempt pays for retries, in milliseconds. Default 10,000. */
  readonly windowMs?: number;
  /** The longest a retry is postponed at a time, in milliseconds. Default 60,000. */
  readonly maxWaitMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Default: the operating system's. */
  readonly random?: Random;
}

/** A snapshot of a retry budget. */
export interface RetryBudgetStatus {
  /** Retries that would be let through now. */
  readonly balance: number;
  /** First attempts, and retries let through, since it was made. */
  readonly firstAttempts: number;
  readonly retries: number;
  /** How often a retry was postponed. */
  readonly postponed: number;
}

/** A retry budget; made by {@link retryBudget}. */
export interface RetryBudget {
  /** Goes into `use`, of one consumer or of several that share the budget. */
  readonly middleware: Middleware;
  status(): RetryBudgetStatus;
}

/**
 * Keeps retries from becoming most of the work: in any `windowMs` at most `ratio` retries per first attempt, and
 * `minPerSecond` besides (the retry budget of Finagle: `RetryBudget` with `ttl`, `minRetriesPerSec` and
 * `percentCanRetry`). Where Finagle gives up, the message is postponed: it waits longer and loses no attempt. Postponed
 * ones come back spread over time, at `minPerSecond`. On an ordered destination the key waits.
 *
 * Any attempt after the first counts as a retry, also of a message whose worker died. Each process has its own budget.
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
  /** Deposits of first attempts, less what retries took. */
  readonly #account: WindowedSum;
  readonly #reserve: number;
  /** When the last postponed retry is to come back, in monotonic milliseconds. */
  #lastDue = Number.NEGATIVE_INFINITY;
  #firstAttempts = 0;
  #retries = 0;
  #postponed = 0;

  constructor(settings: Required<RetryBudgetOptions>) {
    this.#settings = settings;
    this.#account = new WindowedSum(settings.windowMs);
    // Less than one whole retry would never let any through.
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

  /** 0 to go on; otherwise how many milliseconds the message is to wait. */
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

  /** Each a little after the one before, so that they come back as the budget grows; a random time where that is far. */
  #waitMs(now: number): number {
    const { minPerSecond, maxWaitMs, random } = this.#settings;
    const due = Math.max(this.#lastDue, now) + (1_000 / minPerSecond) * (0.5 + random.fraction());
    if (due - now > maxWaitMs) return Math.ceil(maxWaitMs * (0.5 + random.fraction() / 2));
    this.#lastDue = due;
    return Math.ceil(due - now);
  }
}

import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import { type Handler, type Middleware, postpone } from "../../core/delivery.ts";
import { type Intake, type IntakeControl, IntakeGroup } from "./control-intake.ts";
import { checkPositive } from "./options.ts";
import { pause } from "./pause.ts";

/**
 * A token bucket: `burst` tokens at most, refilled evenly with `perSecond`. Kept as the time at which the bucket is full
 * again (the generic cell rate algorithm, ITU-T I.371 and ATM Forum TM 4.0, in its virtual scheduling form), so that it
 * needs no timer, and a token may be taken ahead of its time by whoever then waits for it.
 */
export class TokenBucket {
  readonly #intervalMs: number;
  readonly #toleranceMs: number;
  #fullAt = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number, burst: number) {
    this.#intervalMs = 1_000 / perSecond;
    this.#toleranceMs = this.#intervalMs * (burst - 1);
  }

  /** How many milliseconds the next token is away: 0 if there is one. */
  waitMs(now: number): number {
    return Math.max(this.#fullAt - this.#toleranceMs - now, 0);
  }

  /** Takes the next token, be it there or not. */
  take(now: number): void {
    this.#fullAt = Math.max(this.#fullAt, now) + this.#intervalMs;
  }
}

/** The longest that a handler which has its turn waits for its token; so long a stop may be held up. */
const LONGEST_WAIT_MS = 1_000;

/** The options of {@link rateLimit}. */
export interface RateLimitOptions {
  /** How many handlers are started per second, on average at most. Fractions are fine: 0.1 is one in ten seconds. */
  readonly perSecond: number;
  /** How many may be started at once after a quiet time. Default 1: evenly spaced. */
  readonly burst?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/**
 * Limits how often handlers are started, retries included: in any time of `t` seconds, `burst + perSecond * t` times at
 * most, over all consumers of this process that share the object. See {@link controlIntake}.
 *
 * A token that is near is waited for by a handler that has its turn, one second at most; before one that is further away
 * the intake is held, so that messages wait where they do not count against a deadline, keep their leases and their
 * order, and hold up no stop. Ordered keys wait in the queues of their keys. No attempt is used up. Throws `invalid` for wrong options.
 */
export function rateLimit(options: RateLimitOptions): IntakeControl {
  checkOptions("rateLimit", options, ["perSecond", "burst", "clock"]);
  const { perSecond, burst = 1 } = options;
  const clock = clockOf("rateLimit { clock }", options.clock);
  checkPositive("rateLimit { perSecond }", perSecond);
  checkInteger("rateLimit { burst }", burst, 1);
  return new RateLimit(new TokenBucket(perSecond, burst), clock);
}

class RateLimit implements IntakeControl {
  readonly #bucket: TokenBucket;
  readonly #clock: Clock;
  readonly #group: IntakeGroup;

  constructor(bucket: TokenBucket, clock: Clock) {
    this.#bucket = bucket;
    this.#clock = clock;
    this.#group = new IntakeGroup(clock);
  }

  control(intake: Intake): Middleware {
    this.#group.add(intake);
    return (next) => (body, delivery) => {
      const now = this.#clock.monotonic();
      const waitMs = this.#bucket.waitMs(now);
      if (waitMs <= LONGEST_WAIT_MS) this.#bucket.take(now);
      this.#look(now);
      // Several were started before the first of them was seen: a schema takes its time.
      if (waitMs > LONGEST_WAIT_MS) return postpone({ afterMs: waitMs });
      return waitMs === 0 ? next(body, delivery) : this.#later(waitMs, next, body, delivery);
    };
  }

  /** Holds the intake while the next token is far. */
  #look(now: number): void {
    const aheadMs = this.#bucket.waitMs(now);
    if (aheadMs > LONGEST_WAIT_MS) this.#group.holdUntil(now + aheadMs, () => this.#group.allow(undefined));
  }

  async #later(waitMs: number, next: Handler<unknown>, ...call: Parameters<Handler<unknown>>) {
    const { signal } = call[1];
    // An attempt that is aborted by a stop, or lost, is no failure, whatever is thrown.
    if (!(await pause(this.#clock, waitMs, signal))) throw signal.reason;
    return next(...call);
  }
}

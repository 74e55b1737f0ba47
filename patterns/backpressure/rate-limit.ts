import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import { type Clock, pause } from "../../core/clock.ts";
import { type Handler, type Middleware, postpone } from "../../core/delivery.ts";
import { type Intake, type IntakeControl, IntakeGroup } from "./control-intake.ts";
import { checkPositive } from "./options.ts";

/**
 * A token bucket: at most `burst` tokens, refilled at `perSecond`. Kept as the time at which the bucket is full again
 * (GCRA, ITU-T I.371), so it needs no timer, and a token may be taken ahead of its time.
 */
export class TokenBucket {
  readonly #intervalMs: number;
  readonly #toleranceMs: number;
  #fullAt = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number, burst: number) {
    this.#intervalMs = 1_000 / perSecond;
    this.#toleranceMs = this.#intervalMs * (burst - 1);
  }

  /** Milliseconds until the next token; 0 if there is one. */
  waitMs(now: number): number {
    return Math.max(this.#fullAt - this.#toleranceMs - now, 0);
  }

  /** Takes the next token, also ahead of its time. */
  take(now: number): void {
    this.#fullAt = Math.max(this.#fullAt, now) + this.#intervalMs;
  }
}

/** The longest that a started handler waits for its token. A stop may take that much longer. */
const LONGEST_WAIT_MS = 1_000;

/** The options of {@link rateLimit}. */
export interface RateLimitOptions {
  /** Handler starts per second. Fractions are allowed: 0.1 is one in ten seconds. */
  readonly perSecond: number;
  /** How many handlers may start at once after an idle time. Default 1: evenly spaced. */
  readonly burst?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

/**
 * Limits how often handlers start, retries included: in `t` seconds at most `burst + perSecond * t` times, over all
 * consumers of this process that share the object. Use it with {@link controlIntake}.
 *
 * A handler waits at most one second for its token. If the next token is further away, intake is held: messages wait
 * without a deadline, keep their leases and their order, and do not delay a stop. No attempt is used up. Throws `invalid`
 * for wrong options.
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
      this.#holdIfFar(now);
      // Several handlers may start before the first one gets here, for example behind an asynchronous schema.
      if (waitMs > LONGEST_WAIT_MS) return postpone({ afterMs: waitMs });
      return waitMs === 0 ? next(body, delivery) : this.#later(waitMs, next, body, delivery);
    };
  }

  /** Holds the intake while the next token is far away. */
  #holdIfFar(now: number): void {
    const aheadMs = this.#bucket.waitMs(now);
    if (aheadMs > LONGEST_WAIT_MS) this.#group.holdUntil(now + aheadMs, () => this.#group.allow(undefined));
  }

  async #later(waitMs: number, next: Handler<unknown>, ...call: Parameters<Handler<unknown>>) {
    const { signal } = call[1];
    await pause(this.#clock, waitMs, signal);
    // An attempt that is aborted by a stop or by a lost delivery does not count as a failure.
    if (signal.aborted) throw signal.reason;
    return next(...call);
  }
}

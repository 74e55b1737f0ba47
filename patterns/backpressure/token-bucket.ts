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

import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";

/** Short beside what a network takes now and then: where polls do not wait, messages are to come soon all the same. */
const PAUSE: BackoffTimes = Object.freeze({ firstMs: 10, maxMs: 250 });

/**
 * Polls of one queue that come back empty long before their time, as from a server that knows no long polls, or will have
 * none for the moment. One now and then is nothing; many in a row would be made as fast as the network lets them.
 */
export class EarlyPolls {
  readonly #waitMs: number;
  #inARow = 0;

  constructor(waitSeconds: number) {
    this.#waitMs = waitSeconds * 1_000;
  }

  /** Milliseconds to wait before the next poll, after one that took so long and brought so many messages. */
  pauseMs(tookMs: number, count: number): number {
    this.#inARow = count > 0 || tookMs >= this.#waitMs / 2 ? 0 : this.#inARow + 1;
    return this.#inARow < 2 ? 0 : backoffMs(this.#inARow - 1, PAUSE);
  }
}

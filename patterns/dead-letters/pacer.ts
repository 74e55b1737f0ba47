import type { Clock } from "../../core/clock.ts";
import { pause } from "../../core/clock.ts";

const MOST_LATE_MS = 20;

/** Lets so many pass per second, evenly. */
export class Pacer {
  readonly #clock: Clock;
  readonly #everyMs: number;
  #next: number | undefined;

  /** Without a rate everything passes at once. */
  constructor(clock: Clock, perSecond: number | undefined) {
    this.#clock = clock;
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
  }

  /** Resolves when the next may pass, or the signal is aborted. Must not be called again before. */
  async pass(signal: AbortSignal | undefined): Promise<void> {
    if (this.#everyMs === 0) return;
    const now = this.#clock.monotonic();
    // A timer that fires late is made up for, what was not used while there was nothing to do is not.
    const at = Math.max(this.#next ?? now, now - MOST_LATE_MS);
    this.#next = at + this.#everyMs;
    await pause(this.#clock, at - now, signal);
  }
}

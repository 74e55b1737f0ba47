import type { Clock } from "../../../core/clock.ts";

/** What one loop sleeps on. A ring while nobody sleeps is kept for the next sleep, so that no reason to wake is missed. */
export class Alarm {
  readonly #clock: Clock;
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep, or the next one before it begins. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves after so many milliseconds, or at a ring; without a time at a ring alone. One sleeper at a time. */
  async sleep(ms?: number): Promise<void> {
    if (!this.#rung) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = ms === undefined ? undefined : this.#clock.schedule(resolve, ms);
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
      if (timer !== undefined) this.#clock.cancel(timer);
    }
    this.#rung = false;
  }
}

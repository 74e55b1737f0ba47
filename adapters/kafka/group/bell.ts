import type { Clock } from "../../../core/clock.ts";

/** Lets one part wait for a word of another, and no longer than it wants to. */
export class Bell {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Wakes everyone who waits now. */
  ring(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next ring, or after `ms` milliseconds. */
  wait(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        if (timer !== undefined) this.#clock.cancel(timer);
        resolve();
      };
      const timer = ms === undefined ? undefined : this.#clock.schedule(wake, ms);
      this.#waiting.add(wake);
    });
  }
}

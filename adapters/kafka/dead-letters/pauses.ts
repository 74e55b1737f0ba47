import type { Clock, Timer } from "../../../core/clock.ts";

/** Waits that end early when there is nothing to wait for any more. */
export class Pauses {
  readonly #clock: Clock;
  readonly #open = new Map<Timer, () => void>();
  #isEnded = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves after so many milliseconds, or at the end of all. */
  async wait(ms: number): Promise<void> {
    if (this.#isEnded) return;
    await new Promise<void>((resolve) => {
      const timer = this.#clock.schedule(() => {
        this.#open.delete(timer);
        resolve();
      }, ms);
      this.#open.set(timer, resolve);
    });
  }

  end(): void {
    this.#isEnded = true;
    for (const [timer, resolve] of this.#open) {
      this.#clock.cancel(timer);
      resolve();
    }
    this.#open.clear();
  }
}

import type { Clock } from "../clock.ts";

/** Waits for conditions that are looked at whenever something changed. */
export class Conditions {
  readonly #clock: Clock;
  #waits: { readonly condition: () => boolean; readonly done: () => void }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Something changed. */
  check(): void {
    if (this.#waits.length === 0) return;
    for (const wait of this.#waits) if (wait.condition()) wait.done();
  }

  /** Resolves when the condition holds, or after `timeoutMs`. */
  async until(condition: () => boolean, timeoutMs: number): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#clock.cancel(timer);
        this.#waits = this.#waits.filter((other) => other !== wait);
        resolve();
      };
      const wait = { condition, done };
      const timer = this.#clock.schedule(done, timeoutMs);
      this.#waits.push(wait);
    });
  }

  /** Resolves when the work has settled, or after `timeoutMs`. */
  async settled(work: Promise<unknown>, timeoutMs: number): Promise<void> {
    let over = false;
    const finish = (): void => {
      over = true;
      this.check();
    };
    work.then(finish, finish);
    await this.until(() => over, timeoutMs);
  }
}

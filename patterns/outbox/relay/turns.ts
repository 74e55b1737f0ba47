/** Something that wants a turn. */
export interface Waiter {
  /** How much it would do with it. */
  readonly size: number;
  /** Takes its turn; resolves when it is over. Never rejects. */
  take(): Promise<void>;
}

/** Lets a few at a time have a turn; of those that wait, the one with the most to do is next, so that batches grow. */
export class Turns {
  readonly #most: number;
  readonly #waiting = new Set<Waiter>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Asks for a turn. A second time while it waits changes nothing. */
  ask(waiter: Waiter): void {
    this.#waiting.add(waiter);
    this.#next();
  }

  /** It wants no turn any more. */
  leave(waiter: Waiter): void {
    this.#waiting.delete(waiter);
  }

  #next(): void {
    while (this.#taken < this.#most && this.#waiting.size > 0) {
      let next: Waiter | undefined;
      for (const waiter of this.#waiting) if (next === undefined || waiter.size > next.size) next = waiter;
      if (next === undefined) return;
      this.#waiting.delete(next);
      this.#taken++;
      void next.take().then(() => {
        this.#taken--;
        this.#next();
      });
    }
  }
}

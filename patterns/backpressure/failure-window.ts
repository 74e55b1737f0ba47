/** What the calls of late came to. */
export interface FailureCount {
  readonly calls: number;
  readonly failures: number;
}

interface Call {
  readonly at: number;
  readonly failed: boolean;
}

/** The last calls, so many at most and none older than `maxAgeMs`: the count-based sliding window of Resilience4j, aged. */
export class FailureWindow {
  readonly #most: number;
  readonly #maxAgeMs: number;
  /** A ring: the oldest stands at `#first`. */
  readonly #calls: Call[] = [];
  #first = 0;
  #size = 0;
  #failures = 0;

  constructor(most: number, maxAgeMs: number) {
    this.#most = most;
    this.#maxAgeMs = maxAgeMs;
  }

  record(now: number, failed: boolean): void {
    if (this.#size === this.#most) this.#drop();
    this.#calls[(this.#first + this.#size) % this.#most] = { at: now, failed };
    this.#size++;
    if (failed) this.#failures++;
  }

  count(now: number): FailureCount {
    while (this.#size > 0 && now - (this.#calls[this.#first] as Call).at > this.#maxAgeMs) this.#drop();
    return { calls: this.#size, failures: this.#failures };
  }

  clear(): void {
    this.#size = 0;
    this.#failures = 0;
  }

  #drop(): void {
    if ((this.#calls[this.#first] as Call).failed) this.#failures--;
    this.#first = (this.#first + 1) % this.#most;
    this.#size--;
  }
}

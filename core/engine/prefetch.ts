import type { Clock } from "../clock.ts";

const MEASURE_MS = 100;
/** How much work, in time, waits in memory beyond what runs: enough to cover a round trip to the broker. */
const BUFFER_MS = 50;
/** A larger change than this is worth telling the broker. */
const GROW_BY = 1.5;
const SHRINK_BY = 4;

/**
 * How many unsettled deliveries to ask for: what runs, plus what the handlers get through in a short time (Little's
 * law), so that quick handlers never wait for the broker and slow ones do not hoard what other consumers could do.
 */
export class Prefetch {
  readonly #clock: Clock;
  readonly #most: number;
  #wanted: number;
  #finished = 0;
  #starved = false;
  #since: number;
  #bytesPerMessage = 0;
  readonly #maxBytes: number;

  constructor(clock: Clock, concurrency: number, most: number, maxBytes: number) {
    this.#clock = clock;
    this.#most = most;
    this.#maxBytes = maxBytes;
    this.#wanted = concurrency * 2;
    this.#since = clock.monotonic();
  }

  /** Counts one delivery done with. */
  finished(concurrency: number): void {
    this.#finished++;
    const elapsed = this.#clock.monotonic() - this.#since;
    if (elapsed < MEASURE_MS) return;
    const desired = concurrency + Math.ceil((this.#finished / elapsed) * BUFFER_MS);
    this.#since += elapsed;
    this.#finished = 0;
    const shrinks = desired * SHRINK_BY < this.#wanted && !this.#starved;
    if (desired > this.#wanted * GROW_BY || shrinks) this.#wanted = desired;
    this.#starved = false;
  }

  /**
   * Handlers are free, and all that is held waits for its turn: a few keys fill the prefetch, and what the others could
   * do stands behind it.
   */
  starved(): void {
    this.#starved = true;
    this.#wanted = Math.min(this.#wanted * 2, this.#most);
  }

  /** Learns the size of a body. */
  arrived(bytes: number): void {
    this.#bytesPerMessage = this.#bytesPerMessage === 0 ? bytes : this.#bytesPerMessage * 0.9 + bytes * 0.1;
  }

  /** The prefetch for this concurrency while so many bytes are held; 0 while they are over the limit. */
  size(concurrency: number, heldBytes: number): number {
    if (heldBytes >= this.#maxBytes) return 0;
    const byCount = Math.min(Math.max(this.#wanted, concurrency), this.#most);
    if (this.#bytesPerMessage * byCount <= this.#maxBytes) return byCount;
    // A power of two, so that a drifting average does not tell the broker a new prefetch with every message.
    return Math.max(1, 2 ** Math.floor(Math.log2(this.#maxBytes / this.#bytesPerMessage)));
  }
}

import type { Clock } from "../../core/clock.ts";

/** Resolves after so many milliseconds, or when the signal is aborted. Never rejects. */
export async function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  if (ms <= 0 || signal?.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => resolve();
  const timer = clock.schedule(end, ms);
  signal?.addEventListener("abort", end, { once: true });
  await promise;
  clock.cancel(timer);
  signal?.removeEventListener("abort", end);
}

/** Resolves when the work is over, or after so many milliseconds. Rejects if the work does before. */
export async function within(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([work, pause(clock, ms, over.signal)]);
  } finally {
    over.abort();
  }
}

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

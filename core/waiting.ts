import type { Clock } from "./clock.ts";

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

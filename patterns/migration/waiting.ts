import type { Clock } from "../../core/index.ts";

/** Resolves after so many milliseconds, or when the signal is aborted. Never rejects. */
export async function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  if (ms <= 0 || signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clock.cancel(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = clock.schedule(end, ms);
    signal?.addEventListener("abort", end, { once: true });
  });
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

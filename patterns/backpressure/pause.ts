import type { Clock } from "../../core/clock.ts";

/** Waits so many milliseconds, or until the signal is aborted; resolves with whether all of it passed. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const aborted = (): void => {
      clock.cancel(timer);
      resolve(false);
    };
    const timer = clock.schedule(() => {
      signal.removeEventListener("abort", aborted);
      resolve(true);
    }, ms);
    signal.addEventListener("abort", aborted, { once: true });
  });
}

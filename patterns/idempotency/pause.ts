import type { Clock } from "../../core/index.ts";

/** Waits so long, or until the signal is aborted. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const over = (): void => {
      signal.removeEventListener("abort", over);
      clock.cancel(timer);
      resolve();
    };
    const timer = clock.schedule(over, ms);
    signal.addEventListener("abort", over);
  });
}

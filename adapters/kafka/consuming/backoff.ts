import type { Random } from "../../../core/clock.ts";

/** How long to wait between attempts: the first wait, doubled up to the longest. */
export interface RetryTimes {
  readonly firstMs: number;
  readonly maxMs: number;
}

export const DEFAULT_RETRY: RetryTimes = Object.freeze({ firstMs: 100, maxMs: 3_000 });

/** How long to wait after so many failures in a row: half of it certain, half of it chance, so that many do not come at once. */
export function backoffMs(failures: number, { firstMs, maxMs }: RetryTimes, random: Random): number {
  const longest = Math.min(maxMs, firstMs * 2 ** Math.min(Math.max(failures - 1, 0), 30));
  return longest * (0.5 + random.fraction() / 2);
}

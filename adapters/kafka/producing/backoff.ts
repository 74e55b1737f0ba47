import type { Random } from "../../../core/clock.ts";

/** How long to wait between attempts: the first wait, doubled up to the longest. */
export interface BackoffTimes {
  readonly firstMs: number;
  readonly maxMs: number;
}

const TIMES: BackoffTimes = Object.freeze({ firstMs: 50, maxMs: 1_000 });

/** Milliseconds to wait after so many failures in a row: twice as long each time, up to half of it left to chance. */
export function backoffMs(failures: number, random: Random, { firstMs, maxMs }: BackoffTimes = TIMES): number {
  const longest = Math.min(firstMs * 2 ** Math.min(failures - 1, 30), maxMs);
  return longest * (0.5 + random.fraction() / 2);
}

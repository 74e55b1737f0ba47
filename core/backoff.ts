import type { Random } from "./clock.ts";

/** How long to wait between attempts, in milliseconds: the first wait, doubled up to the longest. */
export interface BackoffTimes {
  readonly firstMs: number;
  readonly maxMs: number;
}

const MOST_DOUBLINGS = 30;

/**
 * Milliseconds to wait after so many failures in a row. Half of it is certain and half is chance, so that many who failed
 * together do not come back together.
 */
export function backoffMs(
  failures: number,
  { firstMs, maxMs }: BackoffTimes,
  random: Pick<Random, "fraction"> = { fraction: Math.random },
): number {
  const doublings = Math.min(Math.max(failures - 1, 0), MOST_DOUBLINGS);
  return Math.min(maxMs, firstMs * 2 ** doublings) * (0.5 + random.fraction() / 2);
}

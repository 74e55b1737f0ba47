const FIRST_MS = 200;
const LONGEST_MS = 3_000;
/** The longest wait where trying again soon would hardly help. */
export const LONG_MS = 30_000;

/**
 * How long to wait after so many failures in a row, in milliseconds: seconds at most, so that what a broker held up goes
 * on soon when it is back. `fraction` is random, from 0 up to 1.
 */
export function backoffMs(failures: number, fraction: number, longestMs = LONGEST_MS): number {
  return Math.min(longestMs, FIRST_MS * 2 ** Math.min(failures - 1, 20)) * (0.5 + fraction / 2);
}

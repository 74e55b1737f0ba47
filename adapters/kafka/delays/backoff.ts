const FIRST_MS = 200;
const LONGEST_MS = 30_000;

/** How long to wait after so many failures in a row, in milliseconds. `fraction` is random, from 0 up to 1. */
export function backoffMs(failures: number, fraction: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 20)) * (0.5 + fraction / 2);
}

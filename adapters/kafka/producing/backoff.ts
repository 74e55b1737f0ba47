import type { Random } from "../../../core/clock.ts";

const FIRST_MS = 50;
const LONGEST_MS = 1_000;

/** Milliseconds to wait after so many failures in a row: twice as long each time up to a second, up to half of it left to chance. */
export function backoffMs(failures: number, random: Random): number {
  const longest = Math.min(FIRST_MS * 2 ** Math.min(failures - 1, 10), LONGEST_MS);
  return longest * (0.5 + random.fraction() / 2);
}

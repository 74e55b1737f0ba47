import type { Parameters } from "fast-check";

const FEW = 100;

/** How much a fuzzer tries: `FUZZ_RUNS` cases, few by default; `FUZZ_SEED` repeats a run that found something. */
export function fuzzing<Case>(): Parameters<Case> {
  const { FUZZ_RUNS, FUZZ_SEED } = process.env;
  const numRuns = FUZZ_RUNS === undefined ? FEW : Number(FUZZ_RUNS);
  return FUZZ_SEED === undefined ? { numRuns } : { numRuns, seed: Number(FUZZ_SEED) };
}

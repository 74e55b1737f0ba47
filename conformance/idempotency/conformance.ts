import type { Runner } from "../conformance.ts";
import { registerCases } from "../stores/suite.ts";
import type { StoreCase } from "./case.ts";
import { claiming } from "./cases/claiming.ts";
import { failing } from "./cases/failing.ts";
import { keeping } from "./cases/keeping.ts";
import { leasing } from "./cases/leasing.ts";
import type { StoreHarness } from "./harness.ts";

/** The cases, in order. */
export const STORE_CASES: readonly StoreCase[] = [...claiming, ...leasing, ...keeping, ...failing];

/**
 * Registers every case with the runner, and prints the table of results at the end. Run the cases one after another.
 * The error of a failed case has the seed that repeats it. With `CI=true` a case that was not run fails, unless the
 * harness names a reason.
 */
export function storeConformance(harness: StoreHarness, runner: Runner): void {
  registerCases(`conformance of the idempotency store ${harness.name}`, harness, STORE_CASES, runner);
}

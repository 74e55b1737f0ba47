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
 * Registers every case with the runner, to be run one after another on the harness's database. A case that fails fails
 * its test, with the seed that repeats it. At the end the table of results is printed. With `CI=true` a case that could
 * not be tried fails, unless the harness names the reason.
 */
export function storeConformance(harness: StoreHarness, runner: Runner): void {
  registerCases(`conformance of the idempotency store ${harness.name}`, harness, STORE_CASES, runner);
}

import type { Runner } from "../conformance.ts";
import { registerCases, type StoreCase } from "../stores/suite.ts";
import { claiming } from "./cases/claiming.ts";
import { failing } from "./cases/failing.ts";
import { keeping } from "./cases/keeping.ts";
import { leasing } from "./cases/leasing.ts";
import { writing } from "./cases/writing.ts";
import type { OutboxHarness } from "./harness.ts";

/** The cases of outbox stores, in order. */
export const OUTBOX_CASES: readonly StoreCase<OutboxHarness>[] = [
  ...writing,
  ...claiming,
  ...leasing,
  ...keeping,
  ...failing,
];

/**
 * Registers every case of outbox stores with the runner, and prints the table of results at the end. Run the cases one
 * after another. The error of a failed case has the seed that repeats it. With `CI=true` a case that was not run fails,
 * unless the harness names a reason.
 */
export function outboxConformance<Transaction>(harness: OutboxHarness<Transaction>, runner: Runner): void {
  // The cases give a store only the transactions that its harness opened.
  const anyHarness = harness as OutboxHarness;
  registerCases(`conformance of the outbox store ${harness.name}`, anyHarness, OUTBOX_CASES, runner);
}

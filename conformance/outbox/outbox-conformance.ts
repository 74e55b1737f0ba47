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
 * Registers every case of outbox stores with the runner, to be run one after another on the harness's database. A case
 * that fails fails its test, with the seed that repeats it. At the end the table of results is printed. With `CI=true` a
 * case that could not be tried fails, unless the harness names the reason.
 */
export function outboxConformance<Transaction>(harness: OutboxHarness<Transaction>, runner: Runner): void {
  // The cases hand a store nothing but the transactions that its own harness opened.
  const anyHarness = harness as OutboxHarness;
  registerCases(`conformance of the outbox store ${harness.name}`, anyHarness, OUTBOX_CASES, runner);
}

import type { Runner } from "../conformance.ts";
import { registerCases, type StoreCase } from "../stores/suite.ts";
import { handling } from "./cases/handling.ts";
import { handlingFaults } from "./cases/handling-faults.ts";
import type { InboxHarness } from "./harness.ts";

/** The cases of inboxes, in order. */
export const INBOX_CASES: readonly StoreCase<InboxHarness>[] = [...handling, ...handlingFaults];

/** Registers every case of inboxes with the runner; see {@link outboxConformance}. */
export function inboxConformance<Transaction>(harness: InboxHarness<Transaction>, runner: Runner): void {
  // The cases give an inbox only the transactions that it opened.
  registerCases(`conformance of the inbox ${harness.name}`, harness as InboxHarness, INBOX_CASES, runner);
}

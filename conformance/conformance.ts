import type { ConformanceCase } from "./case.ts";
import { capabilities } from "./cases/capabilities.ts";
import { delivery } from "./cases/delivery.ts";
import { faults } from "./cases/faults.ts";
import { flow } from "./cases/flow.ts";
import { lifecycle } from "./cases/lifecycle.ts";
import { order } from "./cases/order.ts";
import { refusedCopies } from "./cases/refused-copies.ts";
import { removalCase } from "./cases/removal.ts";
import { retry } from "./cases/retry.ts";
import { settlement } from "./cases/settlement.ts";
import { watchingCase } from "./cases/watching.ts";
import { wire } from "./cases/wire.ts";
import type { Harness } from "./harness.ts";
import { appendReport, type CaseReport, formatReports, skipUnlessRun } from "./results.ts";
import { runCase } from "./run-case.ts";
import { chooseSeed } from "./seed.ts";

/** The functions of a test runner. Vitest's fit as they are; the documentation shows `node:test`. */
export interface Runner {
  describe(title: string, body: () => void): void;
  /** `skip`, if the runner has it, marks a case that was not run. */
  test(title: string, body: (test: { skip?(note?: string): unknown }) => Promise<void>, timeoutMs: number): void;
  afterAll(body: () => void): void;
}

/** The cases, by section. */
export const SECTIONS: readonly { readonly title: string; readonly cases: readonly ConformanceCase[] }[] = [
  { title: "capabilities", cases: capabilities },
  { title: "A wire", cases: wire },
  { title: "B delivery", cases: delivery },
  { title: "C settlement", cases: settlement },
  { title: "D order", cases: order },
  { title: "E flow", cases: flow },
  { title: "F lifecycle", cases: lifecycle },
  { title: "G retry and dead letter", cases: [...retry, ...refusedCopies] },
  { title: "H faults", cases: faults },
  { title: "I tools", cases: [watchingCase, removalCase] },
];

const CASE_TIMEOUT_MS = 600_000;

/** Which cases: `shared` can run side by side, `alone` need the broker for themselves. */
export type CaseSelection = "all" | "shared" | "alone";

/**
 * Registers the cases with the runner, and prints the table of results at the end.
 *
 * - `shared` cases use unique names and can run concurrently, also with other tests on the broker. Run the others one
 *   after another.
 * - The error of a failed case has the seed that repeats it.
 * - `CONFORMANCE_RESULTS` names a file to which each result is appended as a line of JSON.
 * - With `CI=true` a case that was not run fails.
 */
export function conformance(harness: Harness, runner: Runner, selection: CaseSelection = "all"): void {
  const seed = chooseSeed(process.env.CONFORMANCE_SEED);
  const reports: CaseReport[] = [];
  runner.describe(`conformance of ${harness.name}`, () => {
    for (const { title, cases } of SECTIONS) {
      const selected = cases.filter(({ alone = false }) => selection === "all" || alone === (selection === "alone"));
      if (selected.length === 0) continue;
      runner.describe(title, () => {
        for (const one of selected) {
          const body = async (test: { skip?(note?: string): unknown }): Promise<void> => {
            const { report, error } = await runCase(harness, one, seed);
            reports.push(report);
            appendReport(report, process.env.CONFORMANCE_RESULTS);
            if (error !== undefined) throw error;
            skipUnlessRun(report, test);
          };
          runner.test(`${one.number} ${one.title}`, body, one.timeoutMs ?? CASE_TIMEOUT_MS);
        }
      });
    }
    runner.afterAll(() => {
      console.log(`\nconformance of ${harness.name}, seed ${seed}\n${formatReports(reports)}\n`);
    });
  });
}

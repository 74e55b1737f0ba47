import type { CaseReport } from "../case.ts";
import type { Runner } from "../conformance.ts";
import { formatReports } from "../results.ts";
import { chooseSeed } from "../seed.ts";
import type { StoreCase } from "./case.ts";
import { claiming } from "./cases/claiming.ts";
import { failing } from "./cases/failing.ts";
import { keeping } from "./cases/keeping.ts";
import { leasing } from "./cases/leasing.ts";
import type { StoreHarness } from "./harness.ts";
import { runStoreCase } from "./run-case.ts";

/** The cases, in order. */
export const STORE_CASES: readonly StoreCase[] = [...claiming, ...leasing, ...keeping, ...failing];

const CASE_TIMEOUT_MS = 300_000;

/**
 * Registers every case with the runner, to be run one after another on the harness's database. A case that fails fails
 * its test, with the seed that repeats it. At the end the table of results is printed. With `CI=true` a case that could
 * not be tried fails, unless the harness names the reason.
 */
export function storeConformance(harness: StoreHarness, runner: Runner): void {
  const seed = chooseSeed(process.env.CONFORMANCE_SEED);
  const reports: CaseReport[] = [];
  runner.describe(`conformance of the idempotency store ${harness.name}`, () => {
    for (const one of STORE_CASES) {
      const body = async (test: { skip?(note?: string): unknown }): Promise<void> => {
        const { report, error, known } = await runStoreCase(harness, one, seed);
        reports.push(report);
        if (error !== undefined) throw error;
        if (report.result !== "not-run") return;
        if (process.env.CI === "true" && !known) throw new Error(`NOT RUN: ${report.note}`);
        test.skip?.(`NOT RUN: ${report.note}`);
      };
      runner.test(`${one.number} ${one.title}`, body, CASE_TIMEOUT_MS);
    }
    runner.afterAll(() => {
      console.log(`\nconformance of the idempotency store ${harness.name}, seed ${seed}\n${formatReports(reports)}\n`);
    });
  });
}

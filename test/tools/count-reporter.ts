import type { Reporter, TestModule } from "vitest/node";
import { appendToReport } from "../brokers/run-report.ts";

/**
 * Appends what a run of vitest came to, to the file named by `RUN_REPORT`: how many tests passed and failed, and every
 * test that was not run, with its reason. The closing summary adds the runs up.
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandledErrors.length;
    const notRun: { test: string; reason: string }[] = [];
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "passed") passed++;
        else if (result.state === "failed") failedHere++;
        else {
          const reason = (result.state === "skipped" && result.note) || "skipped without a reason";
          notRun.push({ test: `${module.relativeModuleId} > ${test.fullName}`, reason });
        }
      }
      // A file that does not load, or a hook that fails, fails no test of its own.
      if (failedHere === 0 && module.state() === "failed") failedHere = 1;
      failed += failedHere;
    }
    appendToReport("tests", { passed, failed, notRun });
  }
}

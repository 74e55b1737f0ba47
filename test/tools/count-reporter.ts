import type { Reporter, TestModule } from "vitest/node";
import { appendToReport } from "../brokers/run-report.ts";
import type { TestReason } from "./report.ts";

const SLOWEST = 5;

/**
 * Appends the result of a run of vitest to the file named by `RUN_REPORT`: how many tests passed, every test that failed
 * or was not run, with its reason, and the slowest files. The closing summary adds the runs up.
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    let passed = 0;
    const failed: TestReason[] = unhandledErrors.map((error) => ({
      test: "outside of a test",
      reason: reasonOf(error),
    }));
    const notRun: TestReason[] = [];
    const notApplicable: TestReason[] = [];
    const unsteady: TestReason[] = [];
    for (const module of modules) {
      const failedHere: TestReason[] = [];
      for (const test of module.children.allTests()) {
        const result = test.result();
        const name = `${module.relativeModuleId} > ${test.fullName}`;
        if (result.state === "passed") {
          passed++;
          if ((test.diagnostic()?.retryCount ?? 0) > 0)
            unsteady.push({ test: name, reason: reasonOf(result.errors?.[0] ?? "no reason is known") });
        } else if (result.state === "failed") failedHere.push({ test: name, reason: reasonOf(result.errors[0]) });
        else {
          const reason = (result.state === "skipped" && result.note) || "skipped without a reason";
          (reason.startsWith("not applicable: ") ? notApplicable : notRun).push({ test: name, reason });
        }
      }
      // A file that does not load, or a hook that fails, fails no test of its own.
      for (const group of [module, ...module.children.allSuites()]) {
        const name =
          group.type === "suite" ? `${module.relativeModuleId} > ${group.fullName}` : module.relativeModuleId;
        for (const error of group.errors()) failedHere.push({ test: name, reason: reasonOf(error) });
      }
      if (failedHere.length === 0 && module.state() === "failed") {
        failedHere.push({ test: module.relativeModuleId, reason: "no test of it says why" });
      }
      failed.push(...failedHere);
    }
    const slowest = modules
      .map((module) => ({ file: module.relativeModuleId, seconds: module.diagnostic().duration / 1_000 }))
      .sort((one, other) => other.seconds - one.seconds)
      .slice(0, SLOWEST);
    appendToReport("tests", { passed, failed, notRun, notApplicable, unsteady, slowest });
  }
}

const MOST_LINES = 6;

/** The first lines of what an error says, as one: the whole of it was printed where it was thrown. */
function reasonOf(error: unknown): string {
  const message = typeof error === "object" && error !== null && "message" in error ? error.message : error;
  const lines = String(message)
    .split("\n")
    .map((line) => line.trim());
  return lines
    .filter((line) => line !== "")
    .slice(0, MOST_LINES)
    .join(" | ");
}

import type { PartResult } from "./report.ts";

export interface Summary {
  /** What to print; the last line is `N passed, N failed`. */
  readonly text: string;
  readonly exitCode: 0 | 1;
}

/**
 * Adds up all parts. A part that ended badly without a failed test counts as one failure, so that the closing line and
 * the exit code never disagree; with `ci`, so do a broker that was not run, and a part with tests in which none ran.
 */
export function summarize(parts: readonly PartResult[], ci: boolean): Summary {
  let passed = 0;
  let failed = 0;
  const lines: string[] = [];
  const notRun: string[] = [];
  const failures: string[] = [];
  for (const part of parts) {
    const { counts, name, exitCode } = part;
    const failedHere = counts?.failed.length ?? 0;
    passed += counts?.passed ?? 0;
    failed += failedHere;
    const numbers = counts ? `${counts.passed} passed, ${failedHere} failed` : exitCode === 0 ? "passed" : "failed";
    lines.push(`  ${name}: ${numbers}, ${part.seconds.toFixed(0)} s`);
    const slowest = counts?.slowest.map(({ file, seconds }) => `${file} ${seconds.toFixed(0)} s`) ?? [];
    if (slowest.length > 0) lines.push(`    longest: ${slowest.join(", ")}`);
    for (const { test, reason } of counts?.failed ?? []) failures.push(`FAILED   ${test}: ${reason}`);
    if (exitCode !== 0 && failedHere === 0) {
      failed++;
      failures.push(`FAILED   ${name}: ended with code ${exitCode}${counts ? ", though no test of it failed" : ""}`);
    } else if (ci && counts && counts.passed + failedHere === 0) {
      failed++;
      failures.push(`FAILED   ${name}: nothing ran`);
    }
    for (const broker of part.brokers) {
      if (broker.status === "running") {
        lines.push(`    against ${broker.name} ${broker.version} (${broker.how})`);
        continue;
      }
      notRun.push(`NOT RUN  ${broker.name}: ${broker.reason}`);
      if (ci) {
        failed++;
        failures.push(`FAILED   ${broker.name}: with CI=true every broker has to be there`);
      }
    }
    for (const { test, reason } of counts?.notRun ?? []) {
      notRun.push(`NOT RUN  ${test}: ${reason.replace(/^NOT RUN: /, "")}`);
    }
    for (const { test, reason } of counts?.unsteady ?? []) notRun.push(`UNSTEADY ${test}: at the first try: ${reason}`);
    for (const { test, reason } of counts?.notApplicable ?? []) {
      lines.push(`    not applicable: ${test}: ${reason.replace(/^not applicable: /, "")}`);
    }
  }
  const text = ["Summary", ...lines, ...framed([...notRun, ...failures]), `${passed} passed, ${failed} failed`].join(
    "\n",
  );
  return { text, exitCode: failed === 0 ? 0 : 1 };
}

function framed(loud: readonly string[]): string[] {
  if (loud.length === 0) return [];
  const line = "!".repeat(80);
  return [line, ...loud, line];
}

import { appendFileSync } from "node:fs";

/**
 * - `passed`: the promise was tried and kept.
 * - `refused`: the adapter declares that it cannot do it, and was seen to refuse it by name.
 * - `failed`: the promise was broken.
 * - `not-applicable`: the harness names why it cannot be tried there, such as what an emulator lacks.
 * - `not-run`: the harness has no means to try it. This is a hole in the proof, not a pass.
 */
export type CaseResult = "passed" | "refused" | "failed" | "not-applicable" | "not-run";

/** How a case ended on an adapter. */
export interface CaseReport {
  readonly adapter: string;
  readonly case: string;
  readonly title: string;
  readonly result: CaseResult;
  /** Why it was refused, not applicable or not run, or under which conditions it passed. */
  readonly note?: string;
}

const SHOWN: Readonly<Record<CaseResult, string>> = {
  passed: "passed",
  refused: "refused as declared",
  failed: "FAILED",
  "not-applicable": "not applicable",
  "not-run": "NOT RUN",
};

/** Appends a report to the file named by `CONFORMANCE_RESULTS`, a line of JSON each, for a table over all adapters. */
export function appendReport(report: CaseReport, file: string | undefined): void {
  if (file !== undefined && file !== "") appendFileSync(file, `${JSON.stringify(report)}\n`);
}

/** Marks the test of a case that was not tried; with `CI=true` fails it, unless the harness names a reason. */
export function skipUnlessRun({ result, note }: CaseReport, test: { skip?(note?: string): unknown }): void {
  if (result === "not-applicable") test.skip?.(`not applicable: ${note}`);
  if (result !== "not-run") return;
  if (process.env.CI === "true") throw new Error(`NOT RUN: ${note}`);
  test.skip?.(`NOT RUN: ${note}`);
}

/** The reports as a table of cases × adapters, with a line of totals for each adapter. */
export function formatReports(reports: readonly CaseReport[]): string {
  const adapters = [...new Set(reports.map((report) => report.adapter))];
  const cases = new Map(reports.map((report) => [report.case, report.title]));
  const rows = [["case", ...adapters]];
  for (const [number, title] of cases) {
    const results = adapters.map((adapter) => {
      const report = reports.find((one) => one.adapter === adapter && one.case === number);
      return report === undefined ? SHOWN["not-run"] : SHOWN[report.result];
    });
    rows.push([`${number} ${title}`, ...results]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return [...lines, "", ...adapters.map((adapter) => totals(adapter, reports)), ...notes(reports)].join("\n");
}

function totals(adapter: string, reports: readonly CaseReport[]): string {
  const count = (result: CaseResult): number =>
    reports.filter((report) => report.adapter === adapter && report.result === result).length;
  const parts = (Object.keys(SHOWN) as CaseResult[]).filter((result) => count(result) > 0);
  return `${adapter}: ${parts.map((result) => `${count(result)} ${SHOWN[result]}`).join(", ")}`;
}

function notes(reports: readonly CaseReport[]): string[] {
  return reports
    .filter((report) => report.note !== undefined)
    .map((report) => `${report.adapter} ${report.case}: ${SHOWN[report.result]}: ${report.note}`);
}

import { appendFileSync } from "node:fs";

/**
 * - `passed`: the guarantee was tested and kept.
 * - `refused`: the adapter declares it unsupported, and refused it by name.
 * - `failed`: the guarantee was broken.
 * - `not-applicable`: it cannot be tested here, for a reason that the harness names.
 * - `not-run`: the harness has no means to test it. This is a gap, not a pass.
 */
export type CaseResult = "passed" | "refused" | "failed" | "not-applicable" | "not-run";

/** The result of a case on an adapter. */
export interface CaseReport {
  readonly adapter: string;
  readonly case: string;
  readonly title: string;
  readonly result: CaseResult;
  /** Why it was refused, not applicable or not run; or conditions under which it passed. */
  readonly note?: string;
}

const SHOWN: Readonly<Record<CaseResult, string>> = {
  passed: "passed",
  refused: "refused as declared",
  failed: "FAILED",
  "not-applicable": "not applicable",
  "not-run": "NOT RUN",
};

/** Appends a report to the file of `CONFORMANCE_RESULTS`, as a line of JSON. */
export function appendReport(report: CaseReport, file: string | undefined): void {
  if (file !== undefined && file !== "") appendFileSync(file, `${JSON.stringify(report)}\n`);
}

/** Skips the test of a case that was not run. With `CI=true` it fails, unless the harness names a reason. */
export function skipUnlessRun({ result, note }: CaseReport, test: { skip?(note?: string): unknown }): void {
  if (result === "not-applicable") test.skip?.(`not applicable: ${note}`);
  if (result !== "not-run") return;
  if (process.env.CI === "true") throw new Error(`NOT RUN: ${note}`);
  test.skip?.(`NOT RUN: ${note}`);
}

/** A table of cases × adapters, with totals for each adapter. */
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

const RESULTS = ["passed", "refused", "failed", "not-applicable", "not-run"] as const;

/** One line of the file named by `CONFORMANCE_RESULTS`. */
export interface ConformanceResult {
  readonly adapter: string;
  readonly case: string | number;
  readonly title: string;
  /** `refused`: the adapter declares that it cannot, and said so by name, as it has to. */
  readonly result: (typeof RESULTS)[number];
  readonly note?: string;
}

/** Tells whether a value read from that file is a result. */
export function isConformanceResult(value: unknown): value is ConformanceResult {
  if (typeof value !== "object" || value === null) return false;
  const { adapter, case: number, title, result } = value as Partial<Record<keyof ConformanceResult, unknown>>;
  return (
    typeof adapter === "string" &&
    (typeof number === "string" || typeof number === "number") &&
    typeof title === "string" &&
    RESULTS.some((known) => known === result)
  );
}

/** Renders case × adapter as a Markdown table, with the notes below it; undefined if there are no results. */
export function conformanceTable(results: readonly ConformanceResult[]): string | undefined {
  if (results.length === 0) return undefined;
  const adapters = [...new Set(results.map(({ adapter }) => adapter))].sort();
  const cases = [...Map.groupBy(results, (result) => String(result.case))].sort(([one], [other]) =>
    one.localeCompare(other, "en", { numeric: true }),
  );
  const rows = cases.map(([number, ofCase]) => [
    number,
    [...new Set(ofCase.map(({ title }) => title))].join("; "),
    ...adapters.map((adapter) => cell(ofCase.filter((result) => result.adapter === adapter))),
  ]);
  const notes = results
    .filter(({ note, result }) => note !== undefined && result !== "passed")
    .map((result) => `  ${result.case} ${result.adapter}: ${result.result}: ${result.note}`);
  return ["Conformance", ...aligned([["case", "title", ...adapters], ...rows]), ...new Set(notes)].join("\n");
}

/** Several tests may make one case: a failure outweighs all, and what was not run is never hidden by what was. */
function cell(results: readonly ConformanceResult[]): string {
  const seen = new Set(results.map(({ result }) => result));
  if (seen.has("failed")) return "FAILED";
  if (seen.has("not-run") || seen.size === 0) return "NOT RUN";
  return [...seen].sort().join(", ");
}

function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [line(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...body.map(line)];
}

import { expect, test } from "vitest";
import { conformanceTable, isConformanceResult } from "./conformance-table.ts";

test("a table of case by adapter, in the order of the cases, with a hole where an adapter said nothing", () => {
  const table = conformanceTable([
    { adapter: "rabbitmq", case: "10", title: "filter", result: "passed" },
    { adapter: "memory", case: "2", title: "limits", result: "refused", note: "has none" },
    { adapter: "rabbitmq", case: "2", title: "limits", result: "passed" },
  ]);
  expect(table?.split("\n")).toEqual([
    "Conformance",
    "| case | title  | memory  | rabbitmq |",
    "|------|--------|---------|----------|",
    "| 2    | limits | refused | passed   |",
    "| 10   | filter | NOT RUN | passed   |",
    "  2 memory: refused: has none",
  ]);
});

test("a failed test of a case is not hidden by those that passed", () => {
  const results = (["passed", "failed", "not-run"] as const).map((result) => ({
    adapter: "memory",
    case: 1,
    title: "wire",
    result,
  }));
  expect(conformanceTable(results)).toContain("| FAILED |");
  expect(conformanceTable(results.filter(({ result }) => result !== "failed"))).toContain("| NOT RUN |");
});

test("what is not a result is told apart", () => {
  expect(isConformanceResult({ adapter: "memory", case: "1", title: "wire", result: "passed" })).toBe(true);
  expect(isConformanceResult({ adapter: "memory", case: "1", title: "wire", result: "skipped" })).toBe(false);
  expect(isConformanceResult(null)).toBe(false);
});

test("no results, no table", () => {
  expect(conformanceTable([])).toBeUndefined();
});

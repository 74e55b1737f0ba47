import { expect } from "vitest";

/** What every run has to come to. */
export function expectLedgerToClose({ code, output }: { readonly code: number | null; readonly output: string }): void {
  const count = (row: string): number => {
    const found = new RegExp(`^  ${row} +(\\d+)$`, "m").exec(output);
    expect(found, `${row} in:\n${output}`).not.toBeNull();
    return Number(found?.[1]);
  };
  expect(count("orders confirmed")).toBeGreaterThan(50);
  for (const row of [
    "orders lost: never charged",
    "charged without an order",
    "charged more than once",
    "charged out of a customer's order",
    "receipts lost",
    "receipts out of a customer's order",
    "newsletters lost",
  ]) {
    expect(count(row), `${row} in:\n${output}`).toBe(0);
  }
  expect(output).toContain("rolled back to publishing, 20 % of the keys");
  expect(output).toContain("rolled back to consuming");
  expect(output.match(/advanced to retired/g)).toHaveLength(2);
  expect(Number(/and (\d+) cuts/.exec(output)?.[1])).toBeGreaterThanOrEqual(3);
  expect(output.match(/parity of .*, 0 missing/g)).toHaveLength(3);
  expect(output).toContain("the ledger closes: nothing lost, nothing charged twice, each customer in order");
  expect(code).toBe(0);
}

import { expect } from "vitest";
import { rowOf } from "./exactly-once-charge-books.ts";

/** Every order that was accepted has one invoice, whoever was killed. A tenth of the orders has no credit. */
export function expectBooksToBalance(output: string, customers: number, kills: number): void {
  const rows = {
    "orders accepted": 9 * customers,
    "with exactly one invoice": 9 * customers,
    "with more than one invoice": 0,
    "without an invoice": 0,
    "that are not in the books": 0,
    "orders in the books that nobody was told of": 0,
    "orders refused for want of credit": customers,
    "invoices without an order": 0,
    "invoices that say something else than their order": 0,
    "cents ordered": rowOf(output, "cents of credit spent"),
    "cents invoiced": rowOf(output, "cents of credit spent"),
    "shops killed": kills,
    "billing workers killed": kills,
    "dead letters": 0,
  };
  for (const [label, number] of Object.entries(rows))
    expect(rowOf(output, label), `${label} in:\n${output}`).toBe(number);
  expect(output).toContain("the books balance: every accepted order has exactly one invoice\n");
}

import { describe, expect, test } from "vitest";
import { Ledger } from "../../examples/dead-letter-clinic/ledger.ts";
import { testClinic } from "./dead-letter-clinic-on-broker.ts";
import { rowOf } from "./exactly-once-charge-books.ts";

describe("the dead-letter clinic in process", () => {
  testClinic(() => ({}));
});

/** Three orders of which two were dead, and whatever else happened to them. */
function ledgerAfter(...deeds: readonly ((ledger: Ledger) => void)[]): Ledger {
  const ledger = new Ledger();
  for (const order of ["a", "b", "c"]) ledger.given(order);
  ledger.handled("a", "a");
  ledger.deadLettered("b");
  ledger.deadLettered("c");
  for (const deed of deeds) deed(ledger);
  return ledger;
}

const replayed = (ledger: Ledger): void => ledger.handled("b", "b");
const copied = (ledger: Ledger): void => ledger.handled("c", "copy");
const linked = (ledger: Ledger): void => ledger.edited({ id: "copy", editedFrom: "c" });
const archived = (ledger: Ledger): void => ledger.archived("c");

test("the ledger closes over a replay and an edited copy", () => {
  const ledger = ledgerAfter();
  expect([ledger.waiting, ledger.open]).toEqual([0, 2]);
  for (const deed of [replayed, copied, linked]) deed(ledger);
  expect(ledger.open).toBe(0);
  const { closes, lines } = ledger.close(0);
  expect(closes).toBe(true);
  const text = lines.join("\n");
  const rows = ["handled as they were sent", "handled after a replay", "handled as an edited copy", "archived"];
  expect(rows.map((label) => rowOf(text, label))).toEqual([1, 1, 1, 0]);
});

test("the ledger closes over a replay and an archived order", () => {
  expect(ledgerAfter(replayed, archived).close(0).closes).toBe(true);
});

test.for([
  { what: "an order without an end", deeds: [archived], row: "lost" },
  { what: "an order that was handled again", deeds: [replayed, replayed, archived], row: "handled or archived more" },
  {
    what: "an edited order that was archived",
    deeds: [replayed, copied, linked, archived],
    row: "handled or archived more",
  },
  {
    what: "a copy that leads to no order",
    deeds: [replayed, archived, copied],
    row: "handled or archived, and no order",
  },
  {
    what: "an order nobody gave",
    deeds: [replayed, archived, (of: Ledger) => of.handled("d", "d")],
    row: "handled or archived, and no order",
  },
  { what: "a dead letter that is left", deeds: [replayed, archived], left: 1, row: "dead letters left" },
])("the ledger does not close over $what", ({ deeds, left = 0, row }) => {
  const { closes, lines } = ledgerAfter(...deeds).close(left);
  expect(closes).toBe(false);
  expect(rowOf(lines.join("\n"), row)).toBe(1);
});

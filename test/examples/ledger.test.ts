import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Ledger, ledgerWriter } from "../../examples/flash-sale/ledger.ts";

let folder: string;
let file: string;
let ledger: Ledger;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "anybroker-ledger-"));
  file = join(folder, "ledger");
  ledger = new Ledger(file);
});

afterEach(() => {
  ledger.close();
  rmSync(folder, { recursive: true });
});

test("what was accepted and neither handled nor dead-lettered is lost", () => {
  const write = ledgerWriter(file);
  for (const id of ["a", "b", "c", "d"]) ledger.accepted(id);
  write("handled", "orders", "a");
  write("handled", "orders", "b");
  write("handled", "orders", "a");
  write("dead-lettered", "orders", "c");
  write("handled", "billing", "a");
  ledger.read();
  expect(ledger.account("orders")).toEqual({
    role: "orders",
    given: 4,
    handled: 2,
    duplicates: 1,
    deadLettered: 1,
    lost: 1,
  });
  expect(ledger.account("billing")).toMatchObject({ given: 2, handled: 1, lost: 1 });
  expect(ledger.account("warehouse")).toMatchObject({ given: 2, handled: 0, lost: 2 });
});

test("an order handled before its confirm counts when it is accepted", () => {
  const write = ledgerWriter(file);
  write("handled", "orders", "a");
  ledger.read();
  expect(ledger.account("orders")).toMatchObject({ given: 0, handled: 0, lost: 0 });
  ledger.accepted("a");
  expect(ledger.account("orders")).toMatchObject({ given: 1, handled: 1, lost: 0 });
});

test("a line that is half written counts when it is whole", () => {
  ledger.accepted("a");
  appendFileSync(file, "handled orde");
  ledger.read();
  expect(ledger.account("orders").lost).toBe(1);
  appendFileSync(file, "rs a\n");
  ledger.read();
  expect(ledger.account("orders").lost).toBe(0);
});

import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { chargesFor } from "../../examples/exactly-once-charge/charges.ts";
import { closeBooks } from "../../examples/exactly-once-charge/closing.ts";
import { type Journal, journalWriter, readJournal } from "../../examples/exactly-once-charge/journal.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectBooksToClose, expectSecondCopiesKeptBack, rowOf } from "./exactly-once-charge-books.ts";
import { startExample } from "./run-example.ts";

const NOTHING: Journal = {
  over: () => 0,
  keptBack: 0,
  starts: 0,
  againAfterKill: 0,
  againWithoutKill: 0,
  lost: 0,
  deadLettered: 0,
  killed: 0,
};

describe("in process", () => {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  test("each card is charged once, though workers are cut off all the time", { timeout: 600_000 }, async () => {
    const more = { CARDS: "400", KILLS: "4" };
    const { code, output } = await startExample(built.folder, "exactly-once-charge", more).ended();
    expectBooksToClose(output, 400);
    expectSecondCopiesKeptBack(output, 400);
    expect(output).toContain(
      "books in sqlite; idempotent(store) before the handler; the message's id as key in the ledger",
    );
    expect(rowOf(output, "workers killed")).toBe(4);
    // What was running in them then; the killer looks in the same event loop, so that there was something.
    expect(rowOf(output, "again, the worker of the start before was killed")).toBeGreaterThan(0);
    expect(output).toMatch(/in-process worker \d+ takes its place/);
    expect(code).toBe(0);
  });

  test("without the middleware the handler runs for both copies", { timeout: 600_000 }, async () => {
    const more = { CARDS: "200", KILLS: "2", MIDDLEWARE: "off" };
    const { code, output } = await startExample(built.folder, "exactly-once-charge", more).ended();
    expectBooksToClose(output, 200);
    expect(output).toContain("books in sqlite; no middleware; the message's id as key in the ledger");
    expect(rowOf(output, "deliveries that the store kept")).toBe(0);
    expect(rowOf(output, "starts of the handler")).toBeGreaterThanOrEqual(400);
    expect(rowOf(output, "requests for a charge that the ledger had")).toBeGreaterThanOrEqual(200);
    expect(code).toBe(0);
  });

  test("without the middleware and the key each card is charged twice, and it says so", {
    timeout: 600_000,
  }, async () => {
    const more = { CARDS: "100", KILLS: "1", MIDDLEWARE: "off", KEYS: "off" };
    const { code, output } = await startExample(built.folder, "exactly-once-charge", more).ended();
    expect(rowOf(output, "charged more than once")).toBe(100);
    expect(output).toContain("the books do not close\n");
    expect(code).toBe(1);
  });
});

test("a start after another is told by whether the worker of the other was killed before", () => {
  const folder = mkdtempSync(join(tmpdir(), "anybroker-charges-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "journal");
  const [first, second] = [journalWriter(file, "process 1"), journalWriter(file, "process 2")];
  first("started", "a");
  first("started", "b");
  first("finished", "b");
  second("kept-back", "b");
  second("started", "b");
  first("killed");
  second("started", "a");
  second("finished", "a");
  appendFileSync(file, "started a proc");
  const journal = readJournal(file);
  expect(journal).toMatchObject({ starts: 4, againAfterKill: 1, againWithoutKill: 1, keptBack: 1, killed: 1 });
  expect([journal.over(1), journal.over(2)]).toEqual([2, 1]);
});

test.for([
  { what: "a card charged twice", ledger: [0, 1, 1] },
  { what: "a card not charged", ledger: [0] },
  { what: "one card charged twice, another not", ledger: [0, 0] },
  { what: "a charge of more", ledger: [0, 1], more: 1 },
])("the books do not close over $what", ({ ledger, more = 0 }) => {
  const given = chargesFor(2);
  const entries = ledger
    .flatMap((index) => given.slice(index, index + 1))
    .map((charge) => {
      return { card: charge.card, cents: charge.cents + more, requests: 1 };
    });
  expect(closeBooks(given, entries, NOTHING).closes).toBe(false);
});

test("the books close where each card was charged once, however often that was asked for", () => {
  const given = chargesFor(3);
  const { closes, lines } = closeBooks(
    given,
    given.map((charge, index) => ({ ...charge, requests: index + 1 })),
    NOTHING,
  );
  expect(closes).toBe(true);
  expect(rowOf(lines.join("\n"), "requests for a charge that the ledger had")).toBe(3);
});

import { expect, test } from "vitest";
import type { RunningPostgres } from "../brokers/postgres.ts";
import { expectBooksToClose, expectSecondCopiesKeptBack, rowOf } from "./exactly-once-charge-books.ts";
import { usePackageAndDatabase } from "./package-and-database.ts";
import { startExample } from "./run-example.ts";

/** What the charges on one broker are given. */
export interface ChargesOnBroker {
  /** The environment that brings them to the broker; asked for when the test begins. */
  environment(): Readonly<Record<string, string>>;
  readonly cards: number;
  readonly kills: number;
}

/** The test of the exactly-once charge on a real broker, with its books in Postgres. */
export function testCharges(postgres: RunningPostgres, { environment, cards, kills }: ChargesOnBroker): void {
  const made = usePackageAndDatabase(postgres);

  test("each card is charged once, though workers are killed all the time", { timeout: 900_000 }, async () => {
    const { folder, url } = made();
    const more = { ...environment(), POSTGRES_URL: url, CARDS: `${cards}`, KILLS: `${kills}` };
    const { code, output } = await startExample(folder, "exactly-once-charge", more).ended();
    expectBooksToClose(output, cards);
    expectSecondCopiesKeptBack(output, cards);
    expect(output).toContain("books in postgres; idempotent(store) before the handler");
    expect(rowOf(output, "workers killed")).toBe(kills);
    expect(output.match(/process \d+ was killed \(SIGKILL/g)).toHaveLength(kills);
    expect(code).toBe(0);
  });
}

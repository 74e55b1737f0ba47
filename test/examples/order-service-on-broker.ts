import { expect, test } from "vitest";
import type { RunningPostgres } from "../brokers/postgres.ts";
import { expectBooksToBalance } from "./order-service-books.ts";
import { usePackageAndDatabase } from "./package-and-database.ts";
import { startExample } from "./run-example.ts";

/** What the order service on one broker is given. */
export interface OrdersOnBroker {
  /** The environment that brings it to the broker; asked for when the test begins. */
  environment(): Readonly<Record<string, string>>;
  readonly customers: number;
  readonly kills: number;
}

/** The test of the order service on a real broker, with its database in Postgres. */
export function testOrders(postgres: RunningPostgres, { environment, customers, kills }: OrdersOnBroker): void {
  const made = usePackageAndDatabase(postgres);

  test("each accepted order has one invoice, though shops and workers are killed", { timeout: 900_000 }, async () => {
    const { folder, url } = made();
    const more = { ...environment(), POSTGRES_URL: url, CUSTOMERS: `${customers}`, KILLS: `${kills}` };
    const { code, output } = await startExample(folder, "order-service", more).ended();
    expectBooksToBalance(output, customers, kills);
    expect(output).toContain("database postgres; events by the outbox; billing with the inbox");
    expect(output.match(/shop: process \d+ was killed \(SIGKILL/g)).toHaveLength(kills);
    expect(output.match(/billing: process \d+ was killed \(SIGKILL/g)).toHaveLength(kills);
    expect(code).toBe(0);
  });
}

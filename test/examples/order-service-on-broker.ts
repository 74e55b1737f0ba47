import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database, RunningPostgres } from "../brokers/postgres.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectBooksToBalance } from "./order-service-books.ts";
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
  let built: BuiltPackage;
  let place: Database;

  beforeAll(async () => {
    [built, place] = await Promise.all([buildPackage(["examples"]), postgres.newDatabase()]);
  });

  afterAll(async () => {
    built.remove();
    await place.remove();
  });

  test("each accepted order has one invoice, though shops and workers are killed", { timeout: 300_000 }, async () => {
    const more = { ...environment(), POSTGRES_URL: place.url, CUSTOMERS: `${customers}`, KILLS: `${kills}` };
    const { code, output } = await startExample(built.folder, "order-service", more).ended();
    expectBooksToBalance(output, customers, kills);
    expect(output).toContain("database postgres; events by the outbox; billing with the inbox");
    expect(output.match(/shop: process \d+ was killed \(SIGKILL/g)).toHaveLength(kills);
    expect(output.match(/billing: process \d+ was killed \(SIGKILL/g)).toHaveLength(kills);
    expect(code).toBe(0);
  });
}

import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningBroker } from "../brokers/contract.ts";
import { controlsOrNotRun } from "../brokers/suite.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectNothingLost } from "./flash-sale-ledger.ts";
import { startExample } from "./run-example.ts";

const ORDERS = 20_000;

/** What a sale on one broker is given. */
export interface SaleOnBroker {
  /** The environment that brings the sale to the broker; asked for when a test begins. */
  environment(): Readonly<Record<string, string>>;
  /** Default: {@link ORDERS}. With fewer nobody waits for room, and the burst has no moment to restart in. */
  readonly orders?: number;
  /** Whether a shop that has no request under way notices a restart. Default true. */
  readonly hasConnection?: boolean;
}

/** The tests of the flash sale on a real broker: with a killed worker, and with restarts of the broker. */
export function testSales(broker: RunningBroker, sale: SaleOnBroker): void {
  const { orders = ORDERS, hasConnection = true } = sale;
  const environment = () => ({ ...sale.environment(), ORDERS: `${orders}` });
  const restarts = [
    { when: "in the burst", sign: /customers wait for room/, isNoticed: true },
    { when: "in mid-run", sign: /takes its place/, isNoticed: hasConnection },
  ];
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  test("a killed worker is replaced and nothing is lost", { timeout: 900_000 }, async () => {
    const { code, output } = await startExample(built.folder, "flash-sale", environment()).ended();
    expectNothingLost(output, orders);
    expect(output).toMatch(/process \d+ was killed \(SIGKILL/);
    expect(output).toMatch(/process \d+ takes its place/);
    expect(code).toBe(0);
  });

  // One restart while orders are being accepted, one while they are being handled.
  test.for(orders < ORDERS ? restarts.slice(1) : restarts)(
    "a restart of the broker $when loses nothing",
    { timeout: 900_000 },
    async ({ sign, isNoticed }, context) => {
      const controls = controlsOrNotRun(broker, context);
      const run = startExample(built.folder, "flash-sale", environment());
      await run.printed(sign);
      await controls.restart();
      const { code, output } = await run.ended();
      expectNothingLost(output, orders);
      if (isNoticed) expect(output).toContain("shop: connected again");
      expect(code).toBe(0);
    },
  );
}

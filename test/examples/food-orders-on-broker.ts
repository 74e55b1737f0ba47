import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { startExample } from "./run-example.ts";

/** The test of the food orders, with the environment that brings them to a broker; asked for when the test begins. */
export function testFoodOrders(environment: () => Readonly<Record<string, string>>, orders: number): void {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  test("a service that was down catches up, and the others go on meanwhile", { timeout: 600_000 }, async () => {
    const more = { ...environment(), ORDERS: `${orders}` };
    const { code, output } = await startExample(built.folder, "food-orders", more).ended();
    const [third, most] = [orders / 3, (orders * 2) / 3];
    expect(output).toContain(`all services are up: kitchen ${third}, courier ${third}, billing ${third}\n`);
    expect(output).toContain(`billing is down, the others go on: kitchen ${most}, courier ${most}, billing ${third}\n`);
    expect(output).toMatch(/waiting for billing, as \w+ counts them: \d+\n/);
    for (const service of ["kitchen", "courier", "billing"]) {
      expect(output).toMatch(new RegExp(`^ +${service} +${orders} +${orders} +\\d+$`, "m"));
    }
    expect(output).toMatch(/ordered for (\d+) cents, invoices over \1 cents/);
    expect(output).toContain("every service has handled every order, and each has one invoice\n");
    expect(code).toBe(0);
  });
}

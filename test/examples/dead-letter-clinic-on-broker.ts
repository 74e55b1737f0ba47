import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectClinicToSucceed } from "./dead-letter-clinic-ledger.ts";
import { startExample } from "./run-example.ts";

/** The test of the dead-letter clinic, with the environment that brings it to a broker; asked for when the test begins. */
export function testClinic(environment: () => Readonly<Record<string, string>>, orders = 10_000): void {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  test("each order is handled once, edited or archived", { timeout: 900_000 }, async () => {
    const archive = join(built.folder, "archive.jsonl");
    const more = { ...environment(), ORDERS: `${orders}`, ARCHIVE: archive };
    const { code, output } = await startExample(built.folder, "dead-letter-clinic", more).ended();
    expectClinicToSucceed(output, orders, archive);
    expect(code).toBe(0);
  });
}

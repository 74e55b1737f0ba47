import { afterAll, beforeAll, expect } from "vitest";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { rowOf } from "./exactly-once-charge-books.ts";
import { startExample } from "./run-example.ts";

/** A way to run so many rides with an addition to the environment. The package is built before the tests. */
export function useDispatch(): (rides: number, environment: Readonly<Record<string, string>>) => Promise<string> {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  return async (rides, environment) => {
    const more = { ...environment, RIDES: `${rides}` };
    const { code, output } = await startExample(built.folder, "ride-dispatch", more).ended();
    expect(code, output).toBe(0);
    return output;
  };
}

/** What the ledger says of so many rides, whatever the brokers are. */
export function expectDispatchToClose(output: string, rides: number): void {
  for (const label of [
    "rides requested",
    "rides with a driver",
    "times that a driver was sent out",
    "receipts mailed",
    "rides in the live audit",
  ]) {
    expect(rowOf(output, label), label).toBe(rides);
  }
  expect(rowOf(output, "requests that came twice")).toBe(rides / 10);
  expect(rowOf(output, "rides with two drivers")).toBe(0);
  expect(rowOf(output, "rides without a receipt")).toBe(0);
  expect(rowOf(output, "times that the mail server did not answer")).toBe(rides / 20);
  expect(rowOf(output, "cents in the live audit")).toBe(rowOf(output, "cents on receipts"));
  expect(output).toContain("the ledger closes: a driver, a receipt and an entry in the audit for each ride\n");
}

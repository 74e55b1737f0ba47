import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectNothingLost } from "./flash-sale-ledger.ts";
import { startExample } from "./run-example.ts";

let built: BuiltPackage;

beforeAll(async () => {
  built = await buildPackage(["examples"]);
});

afterAll(() => built.remove());

test("the flash sale in process loses nothing", { timeout: 600_000 }, async () => {
  const { code, output } = await startExample(built.folder, "flash-sale", {}).ended();
  expectNothingLost(output, 20_000);
  expect(output).toMatch(/[1-9]\d* customers wait for room/);
  expect(output).toMatch(/in-process worker \d+ was killed/);
  expect(output).toMatch(/in-process worker \d+ takes its place/);
  expect(output).toContain("dead letters of the queue, as memory counts them: 1\n");
  expect(code).toBe(0);
});

test("an unknown broker is refused, and its password is not repeated", async () => {
  const run = startExample(built.folder, "flash-sale", { BROKER_URL: "smtp://me:canary-password@localhost" });
  const { code, output } = await run.ended();
  expect(code).toBe(1);
  expect(output).toContain("knows no scheme smtp:; it knows memory:, amqp:");
  expect(output).not.toContain("canary-password");
});

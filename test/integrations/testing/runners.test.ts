import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { queue } from "anybroker";
import { testBroker } from "anybroker/testing";
import { afterEach, expect, test, vi } from "vitest";
import { importsOf, ROOT, sourcesIn } from "../../house/sources.ts";
import { receipts } from "./order-app.ts";
import { testOrderApp } from "./order-app-case.ts";

const run = promisify(execFile);

afterEach(() => {
  vi.useRealTimers();
});

test("under vitest", async () => {
  await using kit = testBroker({ destinations: [receipts] });
  await testOrderApp(kit, 3_600_000);
});

test("under vitest, with fake timers", async () => {
  vi.useFakeTimers();
  await using kit = testBroker({ destinations: [receipts] });
  await testOrderApp(kit, 3_600_000);
});

test("fake timers do not keep idle() from giving up", async () => {
  vi.useFakeTimers();
  await using kit = testBroker({ idleTimeoutMs: 50 });
  const orders = queue("orders");
  kit.broker.consume(orders, () => new Promise(() => {}));
  await kit.broker.start();
  await kit.broker.send(orders, {}, { id: "m-1" });
  await expect(kit.idle()).rejects.toThrow("message m-1 of queue");
});

test("under node:test", async () => {
  const file = join(ROOT, "test/integrations/testing/under-node-test.ts");
  // The variable would make it report to a parent of its own kind.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { stdout } = await run(process.execPath, ["--test", "--test-reporter=tap", file], { env });
  expect(stdout).toMatch(/^# pass 1$/m);
  expect(stdout).toMatch(/^# fail 0$/m);
});

test("no runner is imported", () => {
  const imported = sourcesIn("integrations/testing").flatMap((source) => importsOf(source));
  expect(imported.map(({ specifier }) => specifier).filter((name) => !/^(\.|node:timers$)/.test(name))).toEqual([]);
});

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { queue } from "anybroker";
import { deadLetters } from "anybroker/dead-letters";
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

/** What jest fakes unless it is told otherwise, but for `process.nextTick`, without which vitest stands still. */
const EVERYTHING = [
  "Date",
  "hrtime",
  "performance",
  "queueMicrotask",
  "setImmediate",
  "setInterval",
  "setTimeout",
  "clearImmediate",
  "clearInterval",
  "clearTimeout",
] as const;

test("with everything faked that a runner can fake", async () => {
  vi.useFakeTimers({ toFake: [...EVERYTHING] });
  await using kit = testBroker({ destinations: [receipts] });
  await testOrderApp(kit, 3_600_000);
});

test("with everything faked before the kit is loaded", async () => {
  vi.resetModules();
  vi.useFakeTimers({ toFake: [...EVERYTHING] });
  const loaded = await import("anybroker/testing");
  expect(loaded.testBroker).not.toBe(testBroker);
  await using kit = loaded.testBroker({ destinations: [receipts] });
  await testOrderApp(kit, 3_600_000);
});

test("dead letters are worked on with everything faked", async () => {
  vi.useFakeTimers({ toFake: [...EVERYTHING] });
  await using kit = testBroker();
  const orders = queue<number>("orders");
  const attempts: number[] = [];
  kit.broker.consume(
    orders,
    (_, { attempt }) => {
      attempts.push(attempt);
      if (attempts.length === 1) throw new Error("the bank is closed");
    },
    { retry: { attempts: 1 } },
  );
  await kit.broker.start();
  await kit.broker.send(orders, 1);
  await kit.idle();
  const replay = await kit.clock.passUntil(deadLetters(kit.broker, orders, { by: "ann" }).replay("all"));
  expect((await kit.clock.passUntil(replay.run())).done).toBe(1);
  await kit.idle();
  expect(attempts).toHaveLength(2);
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
  expect(
    imported.map(({ specifier }) => specifier).filter((name) => !/^(\.|node:(timers|perf_hooks)$)/.test(name)),
  ).toEqual([]);
});

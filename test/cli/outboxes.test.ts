import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { sqliteOutbox } from "anybroker/outbox/sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { type CommandResult, command } from "./commands.ts";
import { type StockedOutbox, stockedOutbox } from "./stocked-outbox.ts";

let folder: string;
let stocked: StockedOutbox;
let configuration: Configuration;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "anybroker-outboxes-"));
  stocked = await stockedOutbox(folder);
  configuration = { outboxes: { orders: stocked.store } };
});

afterEach(async () => {
  await stocked.close();
  rmSync(folder, { recursive: true, force: true });
});

function run(...line: string[]): Promise<CommandResult> {
  return command(["outbox", ...line], { configuration });
}

test("status tells what waits and what is quarantined, without bodies", async () => {
  const [position] = await stocked.quarantine(1);
  const { code, json } = await run("status", "--json");
  expect(code).toBe(0);
  expect(json.outboxes).toMatchObject([
    {
      outbox: "orders",
      store: "sqlite",
      unsent: 2,
      quarantined: 1,
      stalls: [],
      rows: [{ position, id: "m-1", to: "queue:orders", key: "m-1", attempts: 1, code: "too-large" }],
    },
  ]);
  expect(JSON.stringify(json)).not.toContain('"body"');
  expect((await run("status")).stdout).toMatch(
    /unsent 2,.*quarantined 1\n.*\n\d+ +queue:orders +m-1 +1 +too-large +the body/s,
  );
});

test("retry makes rows claimable again, by position or all", async () => {
  const [first = 0, second = 0] = await stocked.quarantine(2);
  expect((await run("retry", "--all", "--dry-run", "--json")).json).toMatchObject({
    dryRun: true,
    retried: [first, second],
  });
  const one = await run("retry", `${first}`, "99", "--json");
  expect(one.code).toBe(3);
  expect(one.json).toMatchObject({ outbox: "orders", retried: [first], missing: [99] });
  expect((await run("retry", "--all", "--json")).json).toMatchObject({ retried: [second], missing: [] });
  expect(await stocked.store.health()).toMatchObject({ unsent: 3, quarantined: 0 });
  expect((await run("retry", "99")).code).toBe(67);
  expect((await run("retry")).code).toBe(64);
  expect((await run("retry", "first")).code).toBe(64);
});

test("prune asks before it removes anything", async () => {
  const [first = 0, second = 0] = await stocked.quarantine(2);
  const unanswered = await run("prune", "--quarantined", "--all");
  expect([unanswered.code, unanswered.stderr]).toEqual([64, expect.stringContaining("never sent")]);
  expect((await run("prune", "--quarantined", "--all", "--dry-run", "--json")).json).toMatchObject({
    quarantined: [first, second],
  });
  expect(await stocked.store.health()).toMatchObject({ quarantined: 2 });
  const removed = await run("prune", "--quarantined", `${first}`, "--yes", "--json");
  expect(removed.json).toMatchObject({ dryRun: false, sent: 0, quarantined: [first], missing: [] });
  expect(await stocked.store.health()).toMatchObject({ unsent: 1, quarantined: 1 });
  expect((await run("prune", "--dry-run", "--json")).json).toMatchObject({ sent: null });
  expect((await run("prune")).code).toBe(64);
  expect((await run("prune", "--yes", "--json")).json).toMatchObject({ sent: 0, quarantined: [] });
  expect((await run("prune", "--all", "--yes")).code).toBe(64);
  expect((await run("prune", "--quarantined", "99", "--yes")).code).toBe(67);
});

test("sent rows whose time is over are removed, and only they", async () => {
  const open = () => new DatabaseSync(join(folder, "shop.db"));
  const keeping = sqliteOutbox(open, { keepSentMs: 1 });
  const claim = await keeping.claim({ relay: "test", limit: 2, leaseMs: 60_000 });
  await keeping.settle(
    claim?.token ?? "",
    (claim?.rows ?? []).map(({ position }) => ({ position, outcome: "sent" })),
  );
  let sent = 0;
  while (sent < 2) {
    const { json } = await command(["outbox", "prune", "--yes", "--json"], {
      configuration: { outboxes: { orders: keeping } },
    });
    sent += json.sent as number;
  }
  expect(sent).toBe(2);
  expect(await keeping.health()).toMatchObject({ unsent: 1 });
  await keeping.close();
});

test("which outbox is said, where there are several or none", async () => {
  const two: Configuration = { outboxes: { orders: stocked.store, mails: stocked.store } };
  expect((await command(["outbox", "retry", "--all"], { configuration: two })).stderr).toContain("--outbox");
  const { json } = await command(["outbox", "status", "--outbox", "mails", "--json"], { configuration: two });
  expect(json.outboxes).toMatchObject([{ outbox: "mails" }]);
  expect((await command(["outbox", "status", "--outbox", "none"], { configuration: two })).code).toBe(64);
  expect((await command(["outbox", "status"], { configuration: {} })).stderr).toContain("outboxes: {");
});

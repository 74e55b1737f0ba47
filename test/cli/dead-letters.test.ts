import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Adapter, queue } from "anybroker";
import { type MemoryAdapter, memory } from "anybroker/memory";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type OpenDeadLetters, withElsewhere } from "../../cli/dead-letters-of.ts";
import { findTarget } from "../../cli/target.ts";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { withoutBrowse } from "../patterns/dead-letters/adapters.ts";
import { type CommandResult, type CommandWorld, command, errorOf } from "./commands.ts";
import { screenOf } from "./screen.ts";
import { type Shop, shop } from "./shop.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: this is how a terminal is told to keep or find a place
const SAVED_CURSOR = /\u001b[78]/;

interface DeadLetterEntry {
  readonly id: string;
  readonly messageId: string;
  readonly body: string;
  readonly valid: unknown;
}

let folder: string;
let stocked: Shop;
let world: CommandWorld;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "anybroker-dlq-"));
  stocked = shop();
  await stocked.stock([
    { id: "o-1", total: 12 },
    { id: "o-2", total: 7 },
    { id: "o-3", total: -1 },
  ]);
  world = { configuration: stocked.configuration, cwd: folder };
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function entries(...filter: string[]): Promise<readonly DeadLetterEntry[]> {
  const { code, json } = await command(["dlq", "ls", "orders", ...filter, "--json"], world);
  expect(code).toBe(0);
  return json.entries as readonly DeadLetterEntry[];
}

describe("looking", () => {
  test("ls lists by filter, a page at a time, and takes nothing", async () => {
    expect(await entries()).toHaveLength(3);
    const some = await entries("reason", "=", "attempts", "and", "header.tenant = acme");
    expect(some.map(({ body }) => body)).toEqual(['{"id":"o-1","total":12}', '{"id":"o-2","total":7}']);
    const first = await command(["dlq", "ls", "queue:orders", "--limit", "2", "--json"], world);
    expect(first.json).toMatchObject({ broker: "broker", destination: "orders", held: false, complete: true });
    const next = first.json.next as string;
    const rest = await command(["dlq", "ls", "orders", "--limit", "2", "--cursor", next, "--json"], world);
    expect(rest.json.next).toBeNull();
    const pages = [first, rest].flatMap(({ json }) => json.entries as readonly DeadLetterEntry[]);
    expect(pages.map(({ id }) => id)).toEqual((await entries()).map(({ id }) => id));
    expect((await command(["dlq", "ls", "orders", "--limit", "2"], world)).stdout).toContain(`more: --cursor ${next}`);
    const text = (await command(["dlq", "ls", "orders"], world)).stdout;
    expect(text).toMatch(/attempts +TypeError: no currency for order o-1 +1 +\d+s +o-1 +\{"id":"o-1","total":12\}/);
    expect((await command(["dlq", "ls", "topic:order.placed/billing"], world)).stdout).toBe(
      "no dead letters of order.placed..billing\n",
    );
  });

  test("groups counts what failed in the same way", async () => {
    const { json } = await command(["dlq", "groups", "orders", "--json"], world);
    expect(json).toMatchObject({ others: 0, groups: [{ count: 2, errorClass: "TypeError" }, { count: 1 }] });
    const [group] = json.groups as readonly { readonly group: string }[];
    expect(await entries(`group = ${group?.group}`)).toHaveLength(2);
    expect((await command(["dlq", "groups", "orders"], world)).stdout).toMatch(
      /^2 +[0-9a-f]{12} +attempts +TypeError: no currency/m,
    );
  });

  test("without a configuration, by name alone; and over everything", async () => {
    const { broker } = stocked.configuration;
    const bare = { ...world, configuration: { broker } };
    const listed = await command(["dlq", "ls", "orders", "--json"], bare);
    expect(listed.json.entries).toMatchObject([{ valid: "unknown" }, { valid: "unknown" }, { valid: "unknown" }]);
    expect(await entries()).toMatchObject([{ valid: true }, { valid: true }, { valid: true }]);
    expect((await command(["dlq", "ls", "order.placed..billing"], bare)).stdout).toContain("no dead letters");
    const all = await command(["dlq", "groups", "--json"], bare);
    expect(all.json).toMatchObject({
      destination: null,
      groups: [{ destination: "orders", count: 2 }, { count: 1 }],
      problems: [],
    });
    expect((await command(["dlq", "groups"], world)).stdout).toMatch(/^OF +COUNT.*\norders +2 /);
    const replayed = await command(["dlq", "replay", "orders", "key = o-1", "--yes", "--json"], bare);
    expect(replayed.json).toMatchObject({ result: { done: 1 } });
    expect(await stocked.takeOrders()).toEqual([{ id: "o-1", total: 12 }]);
    const typo = await command(["dlq", "ls", "order"], bare);
    expect([typo.code, typo.stderr]).toEqual([67, 'anybroker: no queue "order" on memory; did you mean "orders"?\n']);
    const topic = await command(["dlq", "ls", "order.placed"], bare);
    expect([topic.code, topic.stderr]).toEqual([67, expect.stringContaining("write topic:order.placed/billing")]);
    const nothing = await command(["dlq", "groups"], { ...world, configuration: { broker: () => memory() } });
    expect([nothing.code, nothing.stderr]).toEqual([67, expect.stringContaining("no queues and subscriptions")]);
    const kafka = () => Object.assign(delegate(memory()), { name: "kafka" });
    const unseen = await command(["dlq", "groups"], { ...world, configuration: { broker: kafka } });
    expect([unseen.code, unseen.stderr]).toEqual([
      67,
      expect.stringContaining("this user sees no queues and subscriptions of anybroker on kafka"),
    ]);
    expect(unseen.stderr).toContain("grant it Describe");
    const impossible = await command(["dlq", "replay", "orders", "reason = atempts", "--yes"], bare);
    expect([impossible.code, impossible.stderr]).toEqual([65, expect.stringContaining("a reason is one of attempts")]);
  });

  test("what another run holds is told", async () => {
    const { broker: make } = stocked.configuration as { readonly broker: () => MemoryAdapter };
    const broker = (): Adapter => withoutBrowse(make());
    const held = { ...world, configuration: { ...stocked.configuration, broker } };
    let looks: Promise<readonly CommandResult[]> | undefined;
    const look = async (): Promise<readonly CommandResult[]> => [
      await command(["dlq", "ls", "orders"], held),
      await command(["dlq", "groups", "orders", "--json"], held),
    ];
    const running = await command(["dlq", "replay", "orders", "key = o-1", "--rate", "1", "--ramp", "--yes"], {
      ...held,
      terminal: true,
      watch: (printed, interrupt) => {
        // It waits behind its one step, for nobody consumes, and holds the others.
        if (!printed.includes("waiting until it is handled") || looks !== undefined) return;
        looks = look();
        void looks.finally(interrupt);
      },
    });
    expect(running.code).toBe(3);
    const [ls, groups] = (await looks) ?? [];
    expect(ls?.stdout).toBe(
      "no dead letters of orders among those that could be read\n2 are held by others, such as another run, and not shown here\n",
    );
    expect(groups?.json).toMatchObject({ groups: [], elsewhere: 2, complete: false });
  });

  test("show tells everything of one, by its own id or the message's", async () => {
    const [one] = await entries("key = o-1");
    const { json } = await command(["dlq", "show", "orders", one?.messageId ?? "", "--json"], world);
    expect(json.entries).toEqual([one]);
    const { stdout } = await command(["dlq", "show", "orders", one?.id ?? ""], world);
    expect(stdout).toMatch(/^header tenant: acme$/m);
    expect(stdout).toMatch(/^\{"id":"o-1","total":12\}$/m);
    const none = await command(["dlq", "show", "orders", "nobody", "--json"], world);
    expect(none.code).toBe(67);
    expect(errorOf(none)).toMatchObject({ exit: "not-found" });
    // An id that begins as an option does.
    expect((await command(["dlq", "show", "orders", "-abcdefghijklmnopqrstu"], world)).stderr).toContain(
      "has the id -abcdefg",
    );
  });

  test("what cannot be looked at is said", async () => {
    const wrong = await command(["dlq", "ls", "orders", "reason", "is", "odd"], world);
    expect([wrong.code, wrong.stdout]).toEqual([65, ""]);
    const topic = await command(["dlq", "ls", "order.placed"], world);
    expect(topic.code).toBe(64);
    expect(topic.stderr).toContain("topic:order.placed/subscription");
    const missing = await command(["dlq", "ls", "queue:elsewhere", "--json"], world);
    expect(missing.code).toBe(67);
    expect(errorOf(missing)).toMatchObject({ message: 'no queue "elsewhere" on memory' });
  });
});

describe("sending back", () => {
  test("plans, asks, sends exactly what was planned, and keeps the plan and a journal", async () => {
    const asked = await command(["dlq", "replay", "orders", "reason = attempts"], {
      ...world,
      terminal: true,
      answer: "y\n",
    });
    expect(asked.code).toBe(0);
    expect(asked.stderr).toContain("replay 2 dead letters of orders: 2 to orders");
    expect(asked.stderr).toContain("Send 2 dead letters of orders back? [y/N]");
    expect(asked.stdout).toMatch(/^sent back 2\neach message: anybroker dlq report anybroker-runs\/replay-.*\.json\n$/);
    expect(await stocked.takeOrders()).toEqual([
      { id: "o-1", total: 12 },
      { id: "o-2", total: 7 },
    ]);
    expect(await entries()).toHaveLength(1);
    const kept = readdirSync(join(folder, "anybroker-runs"));
    expect(kept.sort()).toEqual([
      expect.stringMatching(/^replay-.*\.journal\.jsonl$/),
      expect.stringMatching(/^replay-.*\.json$/),
    ]);
    expect(statSync(join(folder, "anybroker-runs")).mode & 0o777).toBe(0o700);
    for (const file of kept) expect(statSync(join(folder, "anybroker-runs", file)).mode & 0o777).toBe(0o600);
  });

  test("does nothing without an answer, with a no, or in a dry run", async () => {
    const unanswered = await command(["dlq", "replay", "orders", "all", "--json"], world);
    expect(unanswered.code).toBe(64);
    expect(errorOf(unanswered).message).toContain("--yes");
    const no = await command(["dlq", "replay", "orders", "all"], { ...world, terminal: true, answer: "n\n" });
    expect(no.code).toBe(77);
    const silent = await command(["dlq", "replay", "orders", "all"], { ...world, terminal: true, answer: "" });
    expect(silent.code).toBe(77);
    const dry = await command(["dlq", "replay", "orders", "all", "--limit", "2", "--dry-run", "--json"], world);
    expect(dry.json).toMatchObject({ dryRun: true, planFile: null, result: null, plan: { count: 2, beyondLimit: 1 } });
    expect(dry.json.plan).not.toHaveProperty("entries");
    expect(await entries()).toHaveLength(3);
    expect(await stocked.takeOrders()).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("an empty filter is no filter", async () => {
    expect((await command(["dlq", "replay", "orders", "--yes"], world)).code).toBe(64);
    expect((await command(["dlq", "replay", "orders", "", "--yes"], world)).code).toBe(65);
    expect(await entries()).toHaveLength(3);
  });

  test("Ctrl-C finishes what is under way, says where it stands, and the plan goes on", async () => {
    const line = ["dlq", "replay", "orders", "all", "--yes", "--rate", "2"];
    const stopped = await command(line, {
      ...world,
      terminal: true,
      watch: (printed, interrupt) => {
        if (/replay \[.*\] 1\/3/.test(printed) && !printed.includes("stopping")) interrupt();
      },
    });
    expect(stopped.code).toBe(3);
    // The bar is taken off its line first, and drawn again below.
    expect(stopped.stderr).toContain("\r\u001b[Kstopping; press Ctrl-C again to exit at once\n");
    expect(stopped.stderr).toMatch(/exit at once\n.*replay \[/s);
    // Nothing is written over anything, wherever the cursor was.
    const shown = screenOf(stopped.stderr);
    expect(shown.slice(-2)).toEqual([
      "stopping; press Ctrl-C again to exit at once",
      expect.stringMatching(/^replay \[[=-]{30}\] [123]\/3/),
    ]);
    expect(stopped.stderr).not.toMatch(SAVED_CURSOR);
    expect(stopped.stdout).toMatch(/^sent back [12]\nstopped: it was interrupted/);
    const [, planFile = ""] =
      /continue with: anybroker dlq replay orders --resume (\S+\.json)/.exec(stopped.stdout) ?? [];
    expect(stopped.stdout).toContain("at the plan's pace: at most 2 per second");
    const resumed = await command(["dlq", "replay", "orders", "--resume", planFile, "--yes", "--json"], world);
    expect(resumed.code).toBe(0);
    expect(resumed.json).toMatchObject({
      planFile,
      goOn: null,
      plan: { rate: 2 },
      result: { failed: 0, stopped: null, missingWhy: { removed: 0 } },
    });
    expect(await stocked.takeOrders()).toHaveLength(3);
    expect(await entries()).toEqual([]);
    // Some are there no more, and it is said why.
    const again = await command(["dlq", "replay", "orders", "--resume", planFile, "--rate", "50", "--yes"], world);
    expect(again.stdout).toMatch(/^sent back 0, 3 are missing\nmissing: 3 done by earlier parts of this run/);
    // What was said again stands in the plan from then on.
    const { json } = await command(["dlq", "report", planFile, "--json"], world);
    expect(json.report).toMatchObject({
      rate: 50,
      plannedBy: "ann",
      outcomes: { replayed: 3, missing: 0 },
      parts: [{ stopped: "cancelled" }, { stopped: null }, { stopped: null }],
    });
  });

  test("a ramp that stopped goes on as a ramp, and what came back ends with 3", async () => {
    const still = await stocked.failing();
    const ramp = ["--ramp", "--ramp-first", "1", "--ramp-factor", "2", "--ramp-watch", "1m", "--ramp-backlog", "1m"];
    const first = await command(["dlq", "replay", "orders", "all", "--rate", "20", ...ramp, "--yes"], world);
    expect(first.code).toBe(3);
    expect(first.stdout).toMatch(/^sent back 1, 1 came back\nstopped: too many came back$/m);
    const [, run = ""] = /header\.anybroker-replay-run = (\S+)'/.exec(first.stdout) ?? [];
    expect((await entries(`header.anybroker-replay-run = ${run}`)).length).toBe(1);
    const [, planFile = ""] =
      /--resume (\S+\.json)\nat the plan's pace: at most 20 per second, 1 first/.exec(first.stdout) ?? [];
    const resumed = await command(["dlq", "replay", "orders", "--resume", planFile, "--yes", "--json"], world);
    expect(resumed.code).toBe(3);
    expect(resumed.json).toMatchObject({
      goOn: `anybroker dlq replay orders --resume ${planFile}`,
      plan: { rate: 20, ramp: { first: 1, factor: 2, observeMs: 60_000, backlogMs: 60_000, tolerate: 0 } },
      result: { done: 1, cameBack: 1, stopped: "failed-again" },
    });
    // Tolerated, they are told nevertheless.
    const bold = ["--tolerate", "9", "--ramp-watch", "2s"];
    const last = await command(["dlq", "replay", "orders", "--resume", planFile, ...bold, "--yes", "--json"], world);
    expect(last.code).toBe(3);
    expect(last.json).toMatchObject({
      goOn: null,
      result: { done: 1, cameBack: 1, stopped: null, missing: 2, missingWhy: { handled: 2, "dead-again": 0 } },
    });
    await still.stop();
    const { stdout } = await command(["dlq", "report", run.slice(0, 8)], world);
    expect(stdout).toMatch(/^replayed 3, came-back 3$/m);
    expect(stdout).toMatch(/^what +replay of dead letters of orders to orders$/m);
    expect(stdout).toMatch(/replayed, came back +\d{4}-.* ann/);
    // Each part has its own pace.
    const paces = stdout.matchAll(/^run by .* by ann, (.*)$/gm);
    expect([...paces].map(([, pace]) => pace)).toEqual([
      "20 a second, ramp 1 × 2, 1m each, tolerating 0: stopped, failed-again",
      "20 a second, ramp 1 × 2, 1m each, tolerating 0: stopped, failed-again",
      "20 a second, ramp 1 × 2, 2s each, tolerating 9",
    ]);
    const list = await command(["dlq", "report", "--json"], world);
    expect(list.json).toMatchObject({ report: null, runs: [{ run, file: planFile, open: 0, count: 3 }] });
    const none = await command(["dlq", "report", "nobody"], world);
    expect([none.code, none.stderr]).toEqual([67, expect.stringContaining("dlq report without a run lists them")]);
  });

  test("a group edited on its way, by a patch that the plan keeps or by a script", async () => {
    const patch = '[{"op":"replace","path":"/total","value":99}]';
    const dry = await command(["dlq", "replay", "orders", "key = o-1", "--patch", patch, "--dry-run"], world);
    expect(dry.stdout).toMatch(/each is edited by the patch\nsuch as .*\n- .*"total":12\}\n\+ .*"total":99\}/);
    const line = ["dlq", "replay", "orders", "key in (o-1, o-2)", "--patch", patch, "--yes", "--json"];
    const sent = await command(line, world);
    expect(sent.json).toMatchObject({ result: { done: 2 }, plan: { edit: [{ path: "/total" }] } });
    writeFileSync(join(folder, "fix.mjs"), "export default (body) => ({ ...body, total: -body.total });\n");
    const scripted = ["dlq", "replay", "orders", "all", "--script", "fix.mjs", "--yes", "--json"];
    expect((await command(scripted, world)).json).toMatchObject({ result: { done: 1 }, plan: { edit: "function" } });
    expect((await stocked.takeOrders()).map(({ total }) => total).sort()).toEqual([1, 99, 99]);
    const runs = (await command(["dlq", "report", "--json"], world)).json.runs as readonly { readonly file: string }[];
    const again = ["dlq", "replay", "orders", "--resume", runs[1]?.file ?? "", "--yes"];
    const without = await command(again, world);
    expect([without.code, without.stderr]).toEqual([
      65,
      expect.stringContaining("with a function; pass the same function"),
    ]);
    expect((await command([...again, "--script", "fix.mjs"], world)).code).toBe(0);
    for (const [given, exit, text] of [
      [["--patch", "[{]"], 65, "--patch is no JSON"],
      [["--patch", "nowhere.json"], 66, "nowhere.json cannot be read: ENOENT; there is no such file"],
      [["--patch", '[{"op":"set"}]'], 65, "operation 0 is none of add"],
      [["--script", "nowhere.mjs"], 66, "nowhere.mjs cannot be loaded"],
      [["--script", "fix.mjs", "--patch", patch], 64, "use one of them"],
    ] as const) {
      const refused = await command(["dlq", "replay", "orders", "all", ...given, "--yes"], world);
      expect([refused.code, refused.stderr]).toEqual([exit, expect.stringContaining(text)]);
    }
  });

  test("to another destination, by rate and ramp", async () => {
    const odd = await command(
      ["dlq", "replay", "orders", "all", "--to", "rejected", "--ramp", "--yes", "--json"],
      world,
    );
    expect(odd.code).not.toBe(0);
    const { json } = await command(
      ["dlq", "replay", "orders", "all", "--to", "rejected", "--rate", "1000", "--yes", "--json"],
      world,
    );
    expect(json).toMatchObject({
      plan: { destinations: [{ destination: "rejected", count: 3 }] },
      result: { done: 3 },
    });
    const ramp = ["--ramp", "--ramp-first", "1", "--ramp-watch", "1ms", "--ramp-backlog", "200ms", "--tolerate", "0"];
    await stocked.stock([{ id: "o-9", total: 1 }]);
    // Nobody handles what it sends.
    const unhandled = await command(["dlq", "replay", "orders", "all", ...ramp, "--yes", "--json"], world);
    expect([unhandled.code, unhandled.json.result]).toMatchObject([3, { done: 1, stopped: "unhandled" }]);
    expect((await command(["dlq", "replay", "orders", "all", "--tolerate", "1"], world)).stderr).toContain(
      "need --ramp",
    );
  });

  test("a plan that cannot be read, or is another's, is refused", async () => {
    const missing = await command(["dlq", "replay", "orders", "--resume", "nowhere.json", "--yes"], world);
    expect(missing.code).toBe(66);
    await command(["dlq", "replay", "orders", "all", "--dry-run", "--plan-file", "plan.json"], world);
    expect(existsSync(join(folder, "plan.json"))).toBe(true);
    const other = await command(["dlq", "replay", "rejected", "--resume", "plan.json", "--yes"], world);
    expect([other.code, other.stderr]).toEqual([65, expect.stringContaining("dead letters of orders")]);
    expect(other.stderr).toContain("anybroker: --resume plan.json: the plan is for");
    expect(other.stderr).toContain("resume it on orders, or plan anew for rejected");
    writeFileSync(join(folder, "none.json"), "{}");
    const none = await command(["dlq", "replay", "orders", "--resume", "none.json", "--yes"], world);
    expect([none.code, none.stderr]).toEqual([65, expect.stringContaining("--resume none.json: this is no plan")]);
    const onFile = ["dlq", "discard", "orders", "all", "--archive", "plan.json/a.jsonl", "--yes"];
    expect((await command(onFile, world)).stderr).toMatch(/plan\.json is no folder; name a file in a folder/);
    const both = await command(["dlq", "replay", "orders", "all", "--resume", "plan.json", "--yes"], world);
    expect(both.code).toBe(64);
    expect(await entries()).toHaveLength(3);
  });
});

describe("discarding and editing", () => {
  test("discard keeps everything in the archive, and removes it then", async () => {
    const without = await command(["dlq", "discard", "orders", "all", "--yes"], world);
    expect([without.code, without.stderr]).toEqual([64, expect.stringContaining("--archive")]);
    const dry = await command(["dlq", "discard", "orders", "all", "--dry-run", "--json"], world);
    expect(dry.json).toMatchObject({ dryRun: true, archive: null, plan: { action: "discard", count: 3 } });
    const line = ["dlq", "discard", "orders", "error ~ negative or", "--archive", "archive.jsonl", "--yes"];
    expect((await command(line, world)).code).toBe(65);
    const { code, json } = await command(
      ["dlq", "discard", "orders", "key = o-3", "--archive", "archive.jsonl", "--yes", "--json"],
      world,
    );
    expect(code).toBe(0);
    expect(json).toMatchObject({ archive: "archive.jsonl", result: { done: 1, failed: 0 } });
    const kept = JSON.parse(readFileSync(join(folder, "archive.jsonl"), "utf8")) as Readonly<Record<string, unknown>>;
    expect(kept).toMatchObject({ key: "o-3", by: "ann", body: '{"id":"o-3","total":-1}' });
    expect(await entries()).toHaveLength(2);
    expect(readdirSync(folder).sort()).toEqual(["anybroker-runs", "archive.jsonl"]);
  });

  test("an archive that cannot be written keeps the dead letters", async () => {
    const discarding = (archive: string) =>
      command(["dlq", "discard", "orders", "all", "--archive", archive, "--yes", "--json"], world);
    const absent = await discarding("no/such/file");
    expect(absent.code).toBe(73);
    expect(errorOf(absent).message).toMatch(
      /^no\/such\/file cannot be written: ENOENT; create the folder .*no\/such first/,
    );
    const aFolder = await discarding(".");
    expect([aFolder.code, aFolder.stdout]).toEqual([73, ""]);
    expect(errorOf(aFolder).message).toBe(". cannot be written: it is a folder; name a file in it");
    expect(readdirSync(folder)).toEqual([]);
    expect(await entries()).toHaveLength(3);
  });

  test("edit sends a copy in its place, checked by the schema", async () => {
    const [one] = await entries("key = o-3");
    const id = one?.id ?? "";
    const dry = await command(["dlq", "edit", "orders", id, '{"id":"o-3","total":1}', "--dry-run", "--json"], world);
    expect(dry.json).toMatchObject({ dryRun: true, id: null, editedFrom: one?.messageId, entry: { id } });
    for (const more of [["--dry-run"], ["--yes"]]) {
      const refused = await command(["dlq", "edit", "orders", id, '{"id":"o-3"}', ...more, "--json"], world);
      expect(refused.code).toBe(65);
      expect(errorOf(refused)).toMatchObject({ code: "invalid" });
    }
    expect(await entries()).toHaveLength(3);
    const edited = await command(["dlq", "edit", "orders", id, '{"id":"o-3","total":1}'], {
      ...world,
      terminal: true,
      answer: "yes\n",
    });
    expect(edited.code).toBe(0);
    expect(edited.stderr).toMatch(/-.*"total":-1.*\n.*\+.*"total":1/);
    expect(await stocked.takeOrders()).toEqual([{ id: "o-3", total: 1 }]);
    expect(await entries()).toHaveLength(2);
    expect((await command(["dlq", "edit", "orders", id, "1", "--yes"], world)).code).toBe(67);
  });
});

test("the groups of several destinations are read at once, and shown in their order", async () => {
  let begun = 0;
  const adapter = memory();
  const broker = (): Adapter =>
    delegate(adapter, {
      // No destination is read before another is.
      async *browse(of) {
        begun++;
        while (begun < 2) await new Promise((resolve) => setImmediate(resolve));
        yield* adapter.browse(of);
      },
    });
  const configuration = { broker, destinations: [queue("a"), queue("b")] };
  await command(["topology", "create"], { configuration });
  const { code, stdout } = await command(["dlq", "groups"], { configuration });
  expect([code, stdout]).toEqual([0, "no dead letters on 2 queues and subscriptions\n"]);
});

test("a count that is late is not added to what the scan itself held", async () => {
  const adapter = Object.assign(delegate(memory()), { name: "rabbitmq", unacknowledged: async () => 38 });
  const open = { adapter, target: findTarget("queue:orders", []) } as unknown as OpenDeadLetters;
  expect(await withElsewhere(open, { elsewhere: null }, 38)).toEqual({ elsewhere: null });
  expect(await withElsewhere(open, { elsewhere: null }, 0)).toEqual({ elsewhere: 38 });
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBroker, queue, subscription, topic } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { memoryMigrationStore, migrationControl } from "anybroker/migration";
import { fromUrl } from "anybroker/url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { until } from "../brokers/until.ts";
import { type CommandResult, type CommandWorld, command, documented } from "./commands.ts";
import { type Installed, installed, type Started } from "./installed.ts";
import { CTRL_C, FOUR_SCREENS, hasTerminals, startInTerminal, type } from "./terminals.ts";
import { bury, goThroughVerbs, type Order, removeFrom } from "./verbs-in-terminal.ts";

/** A broker to try the verbs on. */
export interface VerbsBroker {
  /** `rabbitmq`, `kafka`, `sqs`. */
  readonly adapter: string;
  /** Asked for when the tests begin. */
  url(): string | Promise<string>;
  /** What the names of queues and topics begin with. */
  readonly prefix: string;
  /** What is known of the server: version and number, or null. */
  readonly server: { readonly version: unknown; readonly servers: unknown };
  /** How many consumers `top` sees where there are none: null where it sees none anyway. */
  readonly consumers: number | null;
  /** What the age of the oldest is told as: null where it is not. */
  readonly oldestAgeMs: unknown;
  /** What a process needs besides the URL. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether the filters of subscriptions are compared here. */
  readonly comparesFilters: boolean;
  /** Whether `tail` watches queues, or refuses. */
  readonly watchesQueues: boolean;
  /** Whether the broker can be asked what stands. */
  readonly lists: boolean;
}

const NO_TERMINAL = "NOT RUN: there is no `script` of util-linux here to make a terminal with";

/** Goes through the verbs on a real broker, and reads their JSON. */
export function verbsSuite(broker: VerbsBroker): void {
  const orders = queue<Order>(`${broker.prefix}orders`, { key: ({ id }) => id });
  const placed = topic<Order>(`${broker.prefix}placed`);
  const destinations = [orders, placed, subscription(placed, "billing")];
  const source = `${placed.name}..billing`;
  const local = memorySpace();
  const state = memoryMigrationStore();
  const folder = mkdtempSync(join(tmpdir(), "anybroker-verbs-"));
  let world: CommandWorld;
  let url: string;
  /** Made for the first test that needs it. */
  let anybroker: Promise<Installed> | undefined;

  const run = async (...line: string[]): Promise<CommandResult & { readonly exit: number }> => {
    const result = await command([...line, "--json"], world);
    return Object.assign(result, { exit: result.code });
  };
  const depthOf = async (name: string): Promise<Readonly<Record<string, unknown>>> => {
    const { json } = await run("top", name, "--once");
    return (json.destinations as readonly Readonly<Record<string, unknown>>[])[0] ?? {};
  };
  /** What a broker counts it may count late. */
  const depthBecomes = (name: string, expected: object): Promise<void> =>
    until(`the depth of ${name}`, 60_000, async () => expect(await depthOf(name)).toMatchObject(expected));

  beforeAll(async () => {
    url = await broker.url();
    const configuration: Configuration = {
      broker: url,
      brokers: { local: () => memory({ space: local }) },
      destinations,
      by: "ann",
      migration: async () =>
        migrationControl({ from: await fromUrl(url), to: memory({ space: local }), destinations, state, name: "shop" }),
    };
    world = { configuration, cwd: folder };
  });

  afterAll(async () => {
    (await anybroker)?.remove();
    await removeFrom(url, destinations);
    rmSync(folder, { recursive: true });
  });

  test("topology: what is missing is made, and stands then", { timeout: 600_000 }, async () => {
    const before = await run("topology", "verify");
    expect(before.exit).toBe(78);
    expect(before.json).toMatchObject({ verified: false });
    expect((await run("topology", "show")).json).toMatchObject({ adapter: broker.adapter, problems: [] });
    const { exit, json } = await run("topology", "create");
    expect([exit, json.problems]).toEqual([0, []]);
    expect(json.created).toHaveLength(3);
    const states = ["same", "same", broker.comparesFilters ? "same" : "unknown"];
    expect((await run("topology", "diff")).json.destinations).toMatchObject(states.map((state) => ({ state })));
    expect((await run("topology", "verify")).json).toMatchObject({ verified: broker.comparesFilters });
  });

  test("doctor: who it is, and what everything is there", async () => {
    const { exit, json } = await run("doctor");
    expect(exit).toBe(0);
    expect(json).toMatchObject({ adapter: broker.adapter, ...broker.server, problems: [], plan: null });
    expect(json.destinations).toMatchObject([
      { state: "same", messages: 0, deadLetters: 0 },
      { state: "same" },
      { messages: 0 },
    ]);
    const plan = await run("doctor", "--plan", "--to", "local");
    expect(plan.json.plan).toMatchObject({ adapter: "memory" });
  });

  test("send and top: what is sent waits", { timeout: 600_000 }, async () => {
    const lines = Array.from({ length: 5 }, (_, index) => JSON.stringify({ id: `o-${index}` })).join("\n");
    const sent = await command(["send", orders.name, "--file", "-", "--lines", "--json"], { ...world, stdin: lines });
    expect(sent.json).toMatchObject({ sent: 5, failed: 0 });
    await depthBecomes(orders.name, { ready: 5 });
    const { oldestAgeMs, ...others } = await depthOf(orders.name);
    expect(others).toMatchObject({ consumers: broker.consumers, deadLetters: 0, problem: null });
    expect(oldestAgeMs).toEqual(broker.oldestAgeMs);
    if (broker.oldestAgeMs !== null) {
      await until("an age of two seconds", 30_000, async () => {
        expect((await depthOf(orders.name)).oldestAgeMs).toBeGreaterThan(2_000);
      });
    }
    const { stdout } = await command(["top", orders.name, "--count", "2", "--interval", "200ms", "--json"], world);
    const [, second] = stdout.trimEnd().split("\n").map(documented);
    const rate = broker.oldestAgeMs === null ? null : 0;
    expect(second?.destinations).toMatchObject([{ changePerSecond: 0, arrivalPerSecond: rate, drainPerSecond: rate }]);
  });

  test("tail and publish: events are seen, and taken from nobody", { timeout: 600_000 }, async () => {
    const publishing: Promise<CommandResult>[] = [];
    const tailed = await command(["tail", placed.name, "--limit", "2", "--json"], {
      ...world,
      watch: (printed) => {
        if (publishing.length > 0 || !printed.includes(`watching ${placed.name}`)) return;
        for (const id of ["e-1", "e-2"]) {
          publishing.push(
            command(
              ["publish", placed.name, JSON.stringify({ id }), "--id", id, "--routing-key", "geo.us", "--json"],
              world,
            ),
          );
        }
      },
    });
    for (const { code } of await Promise.all(publishing)) expect(code).toBe(0);
    expect(tailed.code).toBe(0);
    const events = tailed.stdout.trimEnd().split("\n").map(documented);
    expect(events.map(({ id }) => id).sort()).toEqual(["e-1", "e-2"]);
    expect(events[0]).toMatchObject({ routingKey: "geo.us", contentType: "application/json", bodyEncoding: "text" });
    await depthBecomes(source, { ready: 2 });
  });

  test("tail on a queue: watched without taking, or refused by name", { timeout: 600_000 }, async () => {
    if (!broker.watchesQueues) {
      const refused = await run("tail", orders.name);
      expect([refused.exit, refused.stdout]).toEqual([69, ""]);
      return;
    }
    const sending: Promise<CommandResult>[] = [];
    const tailed = await command(["tail", orders.name, "--limit", "1", "--json"], {
      ...world,
      watch: (printed) => {
        if (sending.length > 0 || !printed.includes(`watching ${orders.name}`)) return;
        sending.push(command(["send", orders.name, '{"id":"o-5"}', "--id", "m-5", "--json"], world));
      },
    });
    await Promise.all(sending);
    expect(documented(tailed.stdout.trimEnd())).toMatchObject({ id: "m-5", key: "o-5" });
    expect(await depthOf(orders.name)).toMatchObject({ ready: 6 });
    // The others expect five.
    const taker = createBroker(await fromUrl(url));
    const consumer = taker.consume(orders, () => {});
    await taker.start();
    await until("six taken", 60_000, () => expect(consumer.status().succeeded).toBe(6));
    await taker.stop();
    const lines = Array.from({ length: 5 }, (_, index) => JSON.stringify({ id: `o-${index}` })).join("\n");
    await command(["send", orders.name, "--file", "-", "--lines"], { ...world, stdin: lines });
  });

  test("dlq: looked at, edited, sent back, discarded", { timeout: 600_000 }, async () => {
    await bury(url, orders, 5);
    await depthBecomes(orders.name, { deadLetters: 5 });
    const { json } = await run("dlq", "ls", orders.name, "reason = rejected");
    const entries = json.entries as readonly { readonly id: string; readonly key: string }[];
    expect(entries.map(({ key }) => key).sort()).toEqual(["o-0", "o-1", "o-2", "o-3", "o-4"]);
    expect((await run("dlq", "groups", orders.name)).json).toMatchObject({ groups: [{ count: 5 }], others: 0 });
    const first = entries.find(({ key }) => key === "o-0")?.id ?? "";
    expect((await run("dlq", "show", orders.name, first)).json.entries).toMatchObject([
      { key: "o-0", body: '{"id":"o-0"}' },
    ]);
    const edited = await run("dlq", "edit", orders.name, first, '{"id":"o-0b"}', "--yes");
    expect([edited.exit, edited.json.editedFrom]).toEqual([0, (edited.json.entry as { messageId: string }).messageId]);
    const replayed = await run("dlq", "replay", orders.name, "key in (o-1, o-2)", "--yes");
    expect(replayed.json).toMatchObject({ plan: { count: 2 }, result: { done: 2, failed: 0, stopped: null } });
    const discarded = await run("dlq", "discard", orders.name, "all", "--archive", "archive.jsonl", "--yes");
    expect(discarded.json).toMatchObject({ result: { done: 2, failed: 0 } });
    await depthBecomes(orders.name, { ready: 3, deadLetters: 0 });
  });

  test("without a configuration: what stands is found, and what was meant", { timeout: 600_000 }, async () => {
    const bare: CommandWorld = { configuration: { broker: url }, cwd: folder };
    const doctor = await command(["doctor", "--json"], bare);
    expect(doctor.json.destinations).toEqual(
      broker.lists
        ? expect.arrayContaining([
            expect.objectContaining({ destination: `queue:${orders.name}`, state: "undeclared", messages: 3 }),
            expect.objectContaining({
              destination: `topic:${placed.name}/billing`,
              deadLetters: 0,
              deadLettersHeld: 0,
            }),
            expect.objectContaining({ destination: `topic:${placed.name}` }),
          ])
        : [],
    );
    expect((await command(["dlq", "ls", orders.name, "--json"], bare)).json).toMatchObject({
      entries: [],
      elsewhere: 0,
    });
    const typo = await command(["dlq", "ls", `${orders.name}z`], bare);
    expect(typo.code).toBe(67);
    const meant = broker.lists ? `; did you mean "${orders.name}"?` : "; its destinations cannot be listed";
    expect(typo.stderr).toContain(`no queue "${orders.name}z" on ${broker.adapter}${meant}`);
  });

  test("dlq: a ramp waits for consumers, and says meanwhile what it holds", { timeout: 600_000 }, async () => {
    const slow = queue<Order>(`${broker.prefix}slow`, { key: ({ id }) => id });
    const there: CommandWorld = { configuration: { ...world.configuration, destinations: [slow] }, cwd: folder };
    await command(["topology", "create"], there);
    const lines = Array.from({ length: 4 }, (_, index) => JSON.stringify({ id: `s-${index}` })).join("\n");
    await command(["send", slow.name, "--file", "-", "--lines"], { ...there, stdin: lines });
    await bury(url, slow, 4);
    await depthBecomes(`queue:${slow.name}`, { deadLetters: 4 });
    let looks: Promise<readonly CommandResult[]> | undefined;
    const look = async (): Promise<readonly CommandResult[]> => [
      await command(["dlq", "ls", slow.name, "--json"], there),
      await command(["top", slow.name, "--once", "--json"], there),
    ];
    const ramp = ["--ramp", "--ramp-watch", "1s", "--ramp-backlog", "5m", "--rate", "50"];
    const waiting = await command(["dlq", "replay", slow.name, "all", ...ramp, "--yes"], {
      ...there,
      terminal: true,
      watch: (printed, interrupt) => {
        if (!printed.includes("waiting until it is handled") || looks !== undefined) return;
        looks = look();
        void looks.finally(interrupt);
      },
    });
    expect([waiting.code, waiting.stdout]).toEqual([
      3,
      expect.stringContaining("sent back 1\nstopped: it was interrupted"),
    ]);
    const [ls, top] = (await looks) ?? [];
    const held = broker.adapter === "kafka" ? 0 : 3;
    expect(ls?.json.entries).toHaveLength(3 - held);
    // RabbitMQ tells by its management API only, and late.
    const told = broker.adapter === "rabbitmq" ? [null, held] : [held];
    expect(told).toContain(ls?.json.elsewhere);
    const rows = (top?.json.destinations ?? []) as readonly { readonly deadLettersHeld: number | null }[];
    expect(told).toContain(rows[0]?.deadLettersHeld);
    const [, planFile = ""] = /--resume (\S+\.json)/.exec(waiting.stdout) ?? [];
    // Now somebody consumes, and fails.
    const failing = createBroker(await fromUrl(url));
    failing.consume(
      slow,
      () => {
        throw new TypeError("still broken");
      },
      { retry: { attempts: 1 } },
    );
    await failing.start();
    await depthBecomes(`queue:${slow.name}`, { ready: 0, deadLetters: 4 });
    const again = ["dlq", "replay", slow.name, "--resume", planFile, "--ramp-watch", "2m", "--yes", "--json"];
    const stopped = await command(again, there);
    expect(stopped.code).toBe(3);
    expect(stopped.json).toMatchObject({
      plan: { rate: 50, ramp: { observeMs: 120_000, backlogMs: 300_000 } },
      result: { done: 1, cameBack: 1, stopped: "failed-again" },
    });
    await failing.stop();
    const { json } = await command(["dlq", "report", planFile, "--json"], there);
    expect(json.report).toMatchObject({ count: 4, open: 2, outcomes: { replayed: 2 }, plannedBy: "ann" });
    await removeFrom(url, [slow]);
  });

  test("bridge: to another broker and back", { timeout: 600_000 }, async () => {
    await command(["topology", "create", "--broker", "local"], world);
    const itself = await command(["bridge", orders.name, "--to", url, "--dry-run"], world);
    expect([itself.code, itself.stderr]).toEqual([65, expect.stringContaining("to itself for ever")]);
    const there = await run("bridge", orders.name, "--to", "local", "--yes");
    expect(there.json).toMatchObject({
      source: orders.name,
      result: { end: "drained", moved: 3, left: 0, error: null },
    });
    expect(there.exit).toBe(0);
    const back = await run("bridge", orders.name, "--from", "local", "--to", url, "--yes");
    expect(back.json).toMatchObject({ from: "local", result: { end: "drained", moved: 3 } });
    await depthBecomes(orders.name, { ready: 3 });
  });

  test("migrate: told, advanced and taken back", { timeout: 600_000 }, async () => {
    expect((await run("migrate", "status")).json).toMatchObject({ name: "shop", step: "new", pending: null });
    const { json } = await run("doctor", "--plan", "--to", "local");
    const { lost } = json.plan as { readonly lost: readonly string[] };
    const accept = lost.flatMap((name) => ["--accept", name]);
    const advanced = await run("migrate", "advance", ...accept, "--yes");
    expect([advanced.exit, advanced.json.step]).toEqual([0, "prepared"]);
    expect((await run("migrate", "advance", "--yes")).json).toMatchObject({
      from: { step: "prepared" },
      step: "consuming",
    });
    expect((await run("migrate", "report")).json).toMatchObject({ name: "shop" });
    expect((await run("migrate", "rollback", "--to", "new", "--yes")).json).toMatchObject({ step: "new" });
  });

  test("asyncapi: with the names that stand on the broker", async () => {
    const { json } = await run("asyncapi", "--title", "Shop");
    const { channels } = json.document as {
      readonly channels: Readonly<Record<string, { readonly bindings?: object }>>;
    };
    expect(Object.keys(channels).length).toBeGreaterThan(1);
    expect(Object.values(channels).every(({ bindings }) => bindings !== undefined)).toBe(true);
  });

  test("in a real terminal: colours, the question, progress, and Ctrl-C", { timeout: 600_000 }, async (context) => {
    if (!hasTerminals()) {
      context.skip(NO_TERMINAL);
      return;
    }
    anybroker ??= installed();
    const shop = await anybroker;
    const env = { ...broker.environment, BROKER_URL: url, TERM: "xterm", NO_CONFIGURATION: "1" };
    const inTerminal = (line: string): Started => startInTerminal(shop, line, env);
    const place = `queue:${orders.name}`;
    const doctor = await inTerminal(`doctor ${place} topic:${placed.name}/billing`).ended();
    expect([doctor.code, doctor.stdout]).toEqual([0, expect.stringContaining("\u001b[32mnative\u001b[39m")]);
    await bury(url, orders, 3);
    await depthBecomes(orders.name, { deadLetters: 3 });
    const replay = inTerminal(`dlq replay ${place} all`);
    await replay.printed(/Send 3 dead letters .* back\? \[y\/N\] /);
    type(replay, "y\n");
    expect(await replay.ended()).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/replay \[.*3\/3.*sent back 3/s),
    });
    const top = inTerminal(`top ${place} --interval 200ms`);
    await top.printed(FOUR_SCREENS);
    type(top, CTRL_C);
    expect((await top.ended()).code).toBe(0);
    const tail = inTerminal(`tail topic:${placed.name}`);
    await tail.printed(/watching/);
    expect((await inTerminal(`publish topic:${placed.name} '{"id":"e-9"}'`).ended()).code).toBe(0);
    await tail.printed(/\{"id":"e-9"\}/);
    type(tail, CTRL_C);
    expect((await tail.ended()).code).toBe(0);
  });

  test("in a real terminal: every other verb, as a person sees it", { timeout: 600_000 }, async (context) => {
    if (!hasTerminals()) {
      context.skip(NO_TERMINAL);
      return;
    }
    anybroker ??= installed();
    const { prefix, environment = {} } = broker;
    await goThroughVerbs({ anybroker: await anybroker, url, prefix, environment });
  });
}

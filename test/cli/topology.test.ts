import { type Adapter, MessagingError, queue, topic } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { describe, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { SET_IT } from "../../core/errors.ts";
import { command, errorOf } from "./commands.ts";
import { shop } from "./shop.ts";

describe("topology show", () => {
  test("names what each destination becomes on the broker", async () => {
    const { configuration } = shop();
    const { code, json } = await command(["topology", "show", "--json"], { configuration });
    expect(code).toBe(0);
    expect(json).toMatchObject({ broker: "broker", adapter: "memory", problems: [] });
    expect(json.destinations).toContainEqual({
      destination: "queue:orders",
      kind: "queue",
      options: { schema: "zod" },
      physical: { main: "queue orders", deadLetters: "queue orders.dlq", quarantine: "queue orders.quarantine" },
    });
    expect(json.destinations).toContainEqual({
      destination: "topic:order.placed",
      kind: "topic",
      options: {},
      physical: { main: "topic order.placed", deadLetters: null, quarantine: null },
    });
  });

  test("connects to nothing, takes destinations from the command line, and tells what a broker cannot carry", async () => {
    const line = [
      "topology",
      "show",
      "queue:jobs,ordered,priorities=5,ttl=1h",
      "topic:geo/us,filter=geo.us.#,from=earliest",
    ];
    const { code, json } = await command([...line, "--broker", "sqs://eu-central-1", "--json"]);
    expect(code).toBe(0);
    expect(json).toMatchObject({ broker: "sqs://eu-central-1", adapter: "sqs" });
    expect(json.destinations).toMatchObject([
      { destination: "queue:jobs", options: { ordered: true, priorities: 5, ttlMs: 3_600_000 } },
      {
        destination: "topic:geo/us",
        options: { filter: "geo.us.#", from: "earliest" },
        physical: { main: "queue geo_-_-us" },
      },
    ]);
    const problems = json.problems as readonly { readonly code: string; readonly message: string }[];
    expect(problems.map(({ code }) => code)).toEqual(["unsupported", "unsupported"]);
    expect(problems.map(({ message }) => message).join()).toMatch(/priority.*rewind/s);
  });

  test("is a table for people", async () => {
    const { configuration } = shop();
    const { stdout } = await command(["topology", "show"], { configuration });
    expect(stdout).toMatch(
      /^topic:order\.placed\/billing +queue order\.placed\.\.billing +queue order\.placed\.\.billing\.dlq/m,
    );
  });
});

describe("topology create, diff and verify", () => {
  test("create makes what is missing, once, and verify says so", async () => {
    const { configuration } = shop();
    const before = await command(["topology", "verify", "--json"], { configuration });
    expect(before.code).toBe(78);
    expect(before.json).toMatchObject({ verified: false });
    const dry = await command(["topology", "create", "--dry-run", "--json"], { configuration });
    const all = ["queue:orders", "topic:order.placed", "topic:order.placed/billing", "queue:rejected"];
    expect(dry.json).toMatchObject({ dryRun: true, created: all, existed: [], problems: [] });
    expect((await command(["topology", "diff", "--json"], { configuration })).json.destinations).toMatchObject(
      all.map((destination) => ({ destination, state: "missing" })),
    );
    const made = await command(["topology", "create", "--json"], { configuration });
    expect(made.code).toBe(0);
    expect(made.json).toMatchObject({ dryRun: false, created: all, existed: [] });
    expect((await command(["topology", "create", "--json"], { configuration })).json).toMatchObject({
      created: [],
      existed: all,
    });
    const after = await command(["topology", "verify", "--json"], { configuration });
    expect(after.code).toBe(0);
    expect(after.json).toMatchObject({ verified: true });
    const { stdout } = await command(["topology", "verify"], { configuration });
    expect(stdout).toMatch(/^same +queue:orders\n/m);
    expect(stdout).toContain("everything exists as declared");
  });

  test("what the broker cannot carry is refused before anything is made", async () => {
    const space = memorySpace();
    const configuration = {
      broker: () => memory({ space }),
      destinations: [queue("orders"), queue("safe", { durable: true })],
    };
    const refused = await command(["topology", "create", "--json"], { configuration });
    expect(refused.code).toBe(69);
    expect(errorOf(refused)).toMatchObject({
      code: "start-failed",
      exit: "unavailable",
      problems: [{ code: "unsupported" }],
    });
    const { json } = await command(["topology", "diff", "queue:orders", "--json"], { configuration });
    expect(json.destinations).toMatchObject([{ state: "missing" }]);
  });

  /** The shop's broker, where a call ends otherwise. */
  const otherwise = (changes: Partial<Adapter>): Configuration => {
    const adapter = memory();
    return { broker: () => Object.assign(delegate(adapter), changes) };
  };

  test("what is refused and nowhere seen is not told as there", async () => {
    const denied = new MessagingError("unauthorized", "access refused");
    const configuration = otherwise({
      declare: async ({ mode }) => (mode === "none" ? [] : [denied]),
      depth: () => Promise.reject(denied),
    });
    const { code, stdout } = await command(["topology", "create", "queue:zzz"], { configuration });
    expect([code, stdout]).toEqual([77, "unauthorized access refused\n"]);
  });

  test("what was made in part, before something was refused, is told", async () => {
    const gone = new MessagingError("not-found", "no queue");
    const away = new MessagingError("unreachable", "SNS cannot be reached");
    let isMade = false;
    const configuration = otherwise({
      declare: async ({ mode }) => {
        if (mode === "create") isMade = true;
        if (mode === "none") return [];
        return isMade ? [away] : [gone, away];
      },
    });
    const created = await command(["topology", "create", "topic:placed/billing", "--json"], { configuration });
    expect(created.code).toBe(3);
    expect(created.json).toMatchObject({ created: [], existed: [], partly: ["topic:placed/billing"] });
    expect(created.json.problems).toMatchObject([{ code: "unreachable" }]);
  });

  const filter = new MessagingError("conflict", `it filters otherwise; ${SET_IT}`);
  const kept = new MessagingError("conflict", "it is a queue of the other kind");

  /** A broker that has other settings, until something declares on it. */
  const differing = (left: readonly MessagingError[]): Configuration => {
    let isSet = false;
    return otherwise({
      declare: async ({ mode }) => {
        if (mode === "none") return [];
        if (mode === "create") isSet = true;
        return mode === "create" || isSet ? left : [filter, ...left];
      },
    });
  };

  test("create reports what it changed, and --dry-run what it would change", async () => {
    const configuration = differing([]);
    const line = ["topology", "create", "topic:placed/billing"];
    const changed = [
      {
        destination: "topic:placed/billing",
        problems: [{ code: "conflict", message: expect.stringContaining("filters") }],
      },
    ];
    const dry = await command([...line, "--dry-run"], { configuration });
    expect(dry.stdout).toMatch(/^differs topic:placed\/billing.*\n.*it filters otherwise/);
    expect(dry.stdout).not.toMatch(/^conflict/m);
    expect((await command([...line, "--dry-run", "--json"], { configuration })).json).toMatchObject({
      changed,
      problems: [],
    });
    const made = await command([...line, "--json"], { configuration });
    expect(made.json).toMatchObject({ created: [], existed: [], changed, problems: [] });
    expect(made.code).toBe(0);
    expect((await command([...line, "--json"], { configuration })).json).toMatchObject({
      existed: ["topic:placed/billing"],
      changed: [],
    });
    expect((await command(line, { configuration: differing([]) })).stdout).toMatch(/^changed topic:placed\/billing/);
  });

  test("what differs and stays is a problem beside what was changed", async () => {
    const line = ["topology", "create", "topic:placed/billing", "--json"];
    const { code, json } = await command(line, { configuration: differing([kept]) });
    expect(code).toBe(3);
    expect(json).toMatchObject({
      changed: [{ problems: [{ message: expect.stringContaining("it filters otherwise") }] }],
      problems: [{ message: kept.message }],
    });
  });

  test("create says of an existing destination what it could not compare", async () => {
    const unseen = new MessagingError("unsupported", "bindings cannot be seen");
    const configuration: Configuration = {
      broker: () =>
        Object.assign(delegate(memory()), {
          name: "rabbitmq",
          declare: async () => [],
          depth: async () => ({ ready: 0, exact: true }),
          verify: async () => ({ problems: [], unverified: [unseen] }),
        }),
    };
    const line = ["topology", "create", "topic:placed/billing"];
    const { code, stdout } = await command(line, { configuration });
    expect([code, stdout]).toEqual([0, "exists  topic:placed/billing\nunknown bindings cannot be seen\n"]);
    expect((await command([...line, "--json"], { configuration })).json).toMatchObject({
      existed: ["topic:placed/billing"],
      unverified: [{ code: "unsupported", message: "bindings cannot be seen" }],
      problems: [],
    });
  });

  test("a notice that repeats a problem is shown once", async () => {
    const other = new MessagingError("conflict", "a policy is odd");
    const adapter: Adapter = memory();
    let notice: (error: MessagingError) => void = () => {};
    const configuration: Configuration = {
      broker: () =>
        Object.assign(delegate(adapter), {
          open: (signals: Parameters<Adapter["open"]>[0]) => {
            notice = (error) => signals.notice(error);
            return adapter.open(signals);
          },
          declare: async ({ mode }: { readonly mode: string }) => {
            if (mode === "create") for (const one of [kept, other]) notice(one);
            return mode === "none" ? [] : [kept];
          },
        }),
    };
    const { stdout, stderr } = await command(["topology", "create", "queue:a"], { configuration });
    expect(stdout).toContain(kept.message);
    expect(stderr).not.toContain(kept.message);
    expect(stderr).toContain(other.message);
  });

  test("--verbose shows what is behind each problem that is told", async () => {
    const denied = new MessagingError("unauthorized", "access refused", { cause: new Error("behind it") });
    const configuration = otherwise({
      declare: async ({ mode }) => (mode === "none" ? [] : [denied]),
      send: (_, batch, report) => {
        for (const index of batch.keys()) report(index, { status: "rejected", error: denied });
      },
      depth: async () => ({ ready: 0, unsettled: 0, exact: true }),
    });
    for (const [code, line] of [
      [77, ["topology", "create", "queue:zzz"]],
      [0, ["topology", "diff", "queue:zzz"]],
      [77, ["topology", "verify", "queue:zzz"]],
      [77, ["send", "queue:orders", "1"]],
    ] as const) {
      const brief = await command(line, { configuration });
      expect([brief.code, brief.stderr]).toEqual([code, ""]);
      const verbose = await command([...line, "--verbose"], { configuration });
      expect(verbose.stderr).toMatch(
        /^problem: MessagingError: .*access refused\n +at .*caused by: Error: behind it\n +at /s,
      );
    }
  });

  test("verify says what helps with what it found, and no more", async () => {
    const conflict = new MessagingError("conflict", "it has other options");
    const different = await command(["topology", "verify", "queue:a"], {
      configuration: otherwise({ declare: async ({ mode }) => (mode === "none" ? [] : [conflict]) }),
    });
    expect(different.stdout).toContain("not everything exists as declared: what differs");
    expect(different.stdout).not.toContain("topology create");
    const missing = await command(["topology", "verify", "queue:a"], { configuration: otherwise({}) });
    expect(missing.stdout).toContain('"anybroker topology create" creates what is missing');
    expect(missing.stdout).not.toContain("what differs");
    const solved = await command(["topology", "verify", "queue:a"], { configuration: differing([]) });
    expect(solved.stdout).toContain('"anybroker topology create" sets what differs');
  });

  test.for([
    ["send", "queue:ordres", "1"],
    ["publish", "topic:order.place", "1"],
    ["tail", "topic:order.place"],
    ["bridge", "queue:ordres", "--to", "memory:", "--yes"],
    ["topology", "verify", "queue:ordres", "topic:order.place"],
    ["topology", "diff", "queue:ordres", "topic:order.place"],
  ])("a mistyped name has the near one with it: %s %s %s", async (line) => {
    const stocked = shop();
    await command(["topology", "create"], { configuration: stocked.configuration });
    const { broker } = stocked.configuration;
    const { code, stdout, stderr } = await command(line, { configuration: { broker } });
    const meant = line.some((word) => word.includes("ordres")) ? "queue:orders" : "topic:order.placed";
    expect(stdout + stderr).toMatch(new RegExp(`did you mean "?${meant}"?\\?`));
    expect(code).toBe(line[1] === "diff" ? 0 : line[1] === "verify" ? 78 : 67);
  });

  test.for([
    ["topology", "verify", "queue:ordres"],
    ["dlq", "ls", "ordres"],
    ["send", "queue:ordres", "1"],
  ])("a name that does not exist either is not suggested: %s %s", async (line) => {
    const { configuration } = shop();
    const { list: _, ...without } = delegate(memory());
    for (const broker of [configuration.broker, () => without]) {
      const world = { configuration: { ...configuration, ...(broker === undefined ? {} : { broker }) } };
      const { code, stdout, stderr } = await command(line, world);
      expect([67, 78]).toContain(code);
      expect(stdout + stderr).not.toContain("did you mean");
    }
  });

  test("where the broker cannot list, what the configuration has and the broker too is suggested, once", async () => {
    const { configuration } = shop();
    await command(["topology", "create"], { configuration });
    const made = configuration.broker as () => Adapter;
    const broker = () => {
      const { list: _, ...without } = delegate(made());
      return without;
    };
    const { stderr } = await command(["send", "queue:ordres", "1"], { configuration: { ...configuration, broker } });
    expect(stderr).toMatch(/^anybroker: there is no queue "ordres" .*\(did you mean "queue:orders"\?\); declare/);
    expect(stderr.match(/no queue/g)).toHaveLength(1);
  });

  test("destinations that contradict each other are a mistake of the configuration", async () => {
    const configuration = { broker: () => memory(), destinations: [topic("a"), topic("a", { ordered: true })] };
    const { code, stderr } = await command(["topology", "show"], { configuration });
    expect(code).toBe(78);
    expect(stderr).toContain("declared twice with different options");
  });

  test("without any destination it says how to name some", async () => {
    const { code, stderr } = await command(["topology", "show"], { configuration: { broker: () => memory() } });
    expect(code).toBe(64);
    expect(stderr).toContain("queue:orders");
  });
});

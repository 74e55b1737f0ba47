import { createBroker, MessagingError, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { afterEach, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import type { AdvanceOptions, MigrationControl, MigrationStatus } from "../../patterns/migration/index.ts";
import { command, errorOf } from "./commands.ts";

const orders = queue<{ readonly id: string }>("orders");

/** Two in-process brokers, the old one with so many orders on it. */
async function twoBrokers(count: number) {
  const [old, fresh] = [memorySpace(), memorySpace()];
  const brokers = { old: () => memory({ space: old }), fresh: () => memory({ space: fresh }) };
  const configuration: Configuration = { broker: brokers.old, brokers, destinations: [orders] };
  for (const make of Object.values(brokers)) {
    const broker = createBroker(make(), { destinations: [orders] });
    await broker.start();
    if (make === brokers.old)
      for (let each = 0; each < count; each++) await broker.send(orders, { id: `o-${each}` }, { id: `m-${each}` });
    await broker.stop();
  }
  const depthOf = async (name: "old" | "fresh"): Promise<number> => {
    const broker = createBroker(brokers[name](), { declare: "none" });
    await broker.start();
    const { ready } = await broker.depth(orders);
    await broker.stop();
    return ready;
  };
  return { configuration, depthOf };
}

test("bridge looks, asks, and moves everything", async () => {
  const { configuration, depthOf } = await twoBrokers(20);
  const dry = await command(["bridge", "orders", "--to", "fresh", "--dry-run", "--json"], { configuration });
  expect(dry.json).toMatchObject({
    from: "broker",
    to: "fresh",
    source: "orders",
    target: "orders",
    before: 20,
    result: null,
  });
  expect((await command(["bridge", "orders", "--to", "fresh"], { configuration })).code).toBe(64);
  expect(await depthOf("old")).toBe(20);
  const { code, json } = await command(["bridge", "orders", "--from", "old", "--to", "fresh", "--yes", "--json"], {
    configuration,
  });
  expect(code).toBe(0);
  expect(json).toMatchObject({ result: { end: "drained", moved: 20, left: 0, error: null } });
  expect([await depthOf("old"), await depthOf("fresh")]).toEqual([0, 20]);
  expect((await command(["bridge", "queue:nobody", "--to", "fresh", "--yes"], { configuration })).code).toBe(67);
  expect((await command(["bridge", "orders", "--to", "nobody", "--yes"], { configuration })).stderr).toContain(
    "it has old, fresh",
  );
});

test("bridge stops cleanly with Ctrl-C, and the same command continues", async () => {
  const { configuration, depthOf } = await twoBrokers(10);
  const line = ["bridge", "orders", "--to", "fresh", "--yes"];
  const stopped = await command([...line, "--rate", "4"], {
    configuration,
    terminal: true,
    watch: (printed, interrupt) => {
      if (/moving \[.*\] [1-9]\/10/.test(printed) && !printed.includes("stopping")) interrupt();
    },
  });
  expect(stopped.code).toBe(3);
  expect(stopped.stdout).toMatch(/^moved \d\nstopped; the same command continues\n$/);
  expect((await depthOf("old")) + (await depthOf("fresh"))).toBe(10);
  expect((await command([...line, "--json"], { configuration })).json).toMatchObject({ result: { end: "drained" } });
  expect([await depthOf("old"), await depthOf("fresh")]).toEqual([0, 10]);
});

const AT_FIRST: MigrationStatus = {
  name: "shop",
  revision: 0,
  step: "new",
  share: 0,
  pending: undefined,
  accepted: [],
  instances: [{ instance: "web-1", upToDate: true, problem: undefined, remainingMs: 20_000 }],
  history: [],
};

/** What a test does with a control that only plays one. */
interface Played {
  readonly configuration: Configuration;
  readonly asked: AdvanceOptions[];
  status: MigrationStatus;
  closed: number;
}

/** A configuration whose migration does as the test says. */
function played(change: (played: Played, options: AdvanceOptions) => Promise<MigrationStatus>): Played {
  const state: Played = {
    asked: [],
    status: AT_FIRST,
    closed: 0,
    configuration: { by: "ann", migration: () => control },
  };
  all.push(state);
  const changing = (options: AdvanceOptions = {}): Promise<MigrationStatus> => {
    state.asked.push(options);
    return change(state, options);
  };
  const control: MigrationControl = {
    name: "shop",
    compare: () => ({ from: "memory", to: "memory", differences: [], lost: [] }),
    status: async () => state.status,
    advance: changing,
    rollback: changing,
    report: async () => ({
      name: "shop",
      at: "2026-11-22T00:00:00.000Z",
      verdict: "different",
      sources: [
        {
          source: "orders",
          published: 3,
          handled: 2,
          missing: { count: 1, ids: ["m-\u001b[31m1"] },
          dead: { count: 0, ids: [] },
          unexpected: { count: 0, ids: [] },
          remaining: { from: undefined, to: 1 },
        },
      ],
    }),
    close: async () => void state.closed++,
  };
  return state;
}

const all: Played[] = [];

afterEach(() => {
  // Whatever happened, the connections of the control are closed.
  for (const { closed } of all.splice(0)) expect(closed).toBeGreaterThan(0);
});

test("migrate status and report tell what the control says", async () => {
  const { configuration } = played(async () => AT_FIRST);
  const status = await command(["migrate", "status", "--json"], { configuration });
  expect(status.json).toMatchObject({
    name: "shop",
    step: "new",
    pending: null,
    instances: [{ instance: "web-1", problem: null }],
  });
  expect((await command(["migrate", "status"], { configuration })).stdout).toMatch(
    /^shop: new, 0 %.*\nINSTANCE.*\nweb-1 +up to date/s,
  );
  const late = played(async () => AT_FIRST);
  late.status = { ...AT_FIRST, instances: AT_FIRST.instances.map((one) => ({ ...one, upToDate: false })) };
  expect((await command(["migrate", "status"], { configuration: late.configuration })).stdout).toMatch(
    /^web-1 +catching up +sees the last change at its next look$/m,
  );
  const report = await command(["migrate", "report", "--json"], { configuration });
  expect(report.code).toBe(65);
  expect(report.json).toMatchObject({
    verdict: "different",
    sources: [{ missing: { count: 1 }, remaining: { from: null, to: 1 } }],
  });
  expect((await command(["migrate", "report"], { configuration })).stdout).toContain("missing orders m-\\x1b[31m1");
});

test("migrate advance asks, passes on what was given, and tells how far it is then", async () => {
  const state = played(async (played, { onProgress }) => {
    onProgress?.({ waitingFor: "instances", instances: ["web-1"] });
    onProgress?.({ waitingFor: "instances", instances: ["web-1"] });
    played.status = { ...AT_FIRST, step: "prepared", revision: 2 };
    return played.status;
  });
  const { configuration, asked } = state;
  const dry = await command(["migrate", "advance", "--dry-run", "--json"], { configuration });
  expect(dry.json).toMatchObject({ dryRun: true, from: { step: "new", share: 0 }, step: "new" });
  expect((await command(["migrate", "advance"], { configuration })).stderr).toContain("Advance from new to prepared?");
  expect(asked).toEqual([]);
  const line = [
    "migrate",
    "advance",
    "--accept",
    "priority",
    "--accept",
    "rewind",
    "--share",
    "12.5",
    "--patience",
    "1m",
    "--yes",
  ];
  const { code, json, stderr } = await command([...line, "--json"], { configuration });
  expect(code).toBe(0);
  expect(json).toMatchObject({ dryRun: false, from: { step: "new", share: 0 }, step: "prepared", revision: 2 });
  expect(asked).toMatchObject([{ by: "ann", accept: ["priority", "rewind"], share: 12.5, patienceMs: 60_000 }]);
  expect(stderr).toBe("waiting for web-1\n");
});

test("a change that breaks off says where it stands, and how to go on", async () => {
  const pending = {
    step: "consuming",
    share: 0,
    since: "2026-11-22T00:00:00.000Z",
    by: "ann",
    waitingFor: ["web-1"],
  } as const;
  const state = played(async (played, { signal, onProgress }) => {
    played.status = { ...AT_FIRST, step: "prepared", pending };
    if (played.asked.length > 1) throw new MessagingError("timeout", "not everybody took it over in time");
    const aborted = new Promise((resolve) => signal?.addEventListener("abort", resolve, { once: true }));
    onProgress?.({ waitingFor: "instances", instances: ["web-1"] });
    await aborted;
    throw signal?.reason;
  });
  const { configuration } = state;
  const interrupted = await command(["migrate", "rollback", "--to", "new", "--yes", "--json"], {
    configuration,
    watch: (printed, interrupt) => {
      if (printed.includes("waiting for web-1") && !printed.includes("stopping")) interrupt();
    },
  });
  expect(interrupted.code).toBe(3);
  expect(interrupted.json).toMatchObject({ step: "prepared", pending: { step: "consuming", waitingFor: ["web-1"] } });
  const late = await command(["migrate", "advance", "--yes"], { configuration });
  expect(late.code).toBe(3);
  expect(late.stdout).toMatch(
    /^not everybody took it over.*continue with: anybroker migrate advance; take back with: anybroker migrate rollback/s,
  );
});

test("one Ctrl-C ends a command whose state store never answers, after a while", async () => {
  const { promise: exited, resolve: exit } = Promise.withResolvers<number>();
  const { promise: silence, resolve: answer } = Promise.withResolvers<MigrationStatus>();
  let interrupt = (): void => {};
  const status = (): Promise<MigrationStatus> => {
    interrupt();
    return silence;
  };
  const control = { status, close: async () => {} } as unknown as MigrationControl;
  const ended = command(["migrate", "status"], {
    configuration: { migration: () => control },
    faster: 10_000,
    begins: (how) => {
      interrupt = how;
    },
    exit,
  });
  expect(await exited).toBe(130);
  answer(AT_FIRST);
  expect((await ended).stderr).toContain("it did not stop within 60 s");
});

test("a migration that is not configured, or is refused, is said", async () => {
  expect((await command(["migrate", "status"], { configuration: {} })).stderr).toContain("migrationControl");
  const { configuration } = played(async () => {
    throw new MessagingError("conflict", "somebody else changed it");
  });
  const refused = await command(["migrate", "advance", "--yes", "--json"], { configuration });
  expect(refused.code).toBe(78);
  expect(errorOf(refused)).toMatchObject({ code: "conflict", message: "somebody else changed it" });
  expect((await command(["migrate", "rollback", "--to", "nowhere"], { configuration })).code).toBe(64);
});

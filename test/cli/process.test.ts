import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../package/built-package.ts";
import { documented } from "./commands.ts";
import { type Installed, installed, started } from "./installed.ts";

let anybroker: Installed;

beforeAll(async () => {
  anybroker = await installed();
});

afterAll(() => anybroker.remove());

test("ends with the code of what happened, and by itself, whatever the configuration left open", async () => {
  const ends: readonly (readonly [line: string[], code: number])[] = [
    [["dlq", "ls", "orders"], 0],
    [["send", "orders", "{}", "--colour"], 64],
    [["send", "orders", "no json"], 65],
    [["dlq", "show", "orders", "nobody"], 67],
    [["topology", "verify", "queue:nobody"], 78],
    [["doctor", "--broker", "amqp://localhost:1"], 69],
  ];
  const ended = await Promise.all(
    ends.map(async ([line]) => [line, (await anybroker.start(line, { HANG: "open" }).ended()).code] as const),
  );
  expect(ended).toEqual(ends);
});

test("reads a configuration in TypeScript that imports the package by its name", async () => {
  const { code, stdout, stderr } = await anybroker.start(["dlq", "ls", "orders", "--json"], { DEAD: "2" }).ended();
  expect([code, stderr]).toEqual([0, ""]);
  expect(documented(stdout.trimEnd()).entries).toHaveLength(2);
});

test("Ctrl-C ends what watches with 0, and what waits for a broker with 130", async () => {
  const watching = anybroker.start(["tail", "order.placed"]);
  await watching.printed(/watching order\.placed/);
  watching.child.kill("SIGINT");
  expect(await watching.ended()).toMatchObject({ code: 0, stderr: expect.stringContaining("stopping") });
  const waiting = anybroker.start(["top"], { HANG: "broker", DEAD: "1" });
  await waiting.printed(/it hangs/);
  waiting.child.kill("SIGTERM");
  expect(await waiting.ended()).toMatchObject({ code: 130, stderr: expect.stringContaining("nothing was changed") });
});

test("says its own version, also in the folder of another package", async () => {
  const other = mkdtempSync(join(tmpdir(), "anybroker-other-"));
  writeFileSync(join(other, "package.json"), JSON.stringify({ name: "other", version: "9.9.9" }));
  const { version } = JSON.parse(readFileSync(join(anybroker.folder, "package.json"), "utf8")) as { version: string };
  try {
    const main = join(anybroker.folder, "dist/cli/main.js");
    expect(await started("node", [main, "--version"], other, {}).ended()).toMatchObject({ stdout: `${version}\n` });
    const source = join(ROOT, "cli/main.ts");
    expect(await started("node", [source, "--version"], other, {}).ended()).toMatchObject({ stdout: `${version}\n` });
  } finally {
    rmSync(other, { recursive: true });
  }
});

test("an older Node.js, and an import in a CommonJS package, are answered with what helps", async () => {
  const other = mkdtempSync(join(tmpdir(), "anybroker-other-"));
  const source = join(ROOT, "cli/main.ts");
  const older = 'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.19.0" } });';
  writeFileSync(join(other, "older.mjs"), older);
  writeFileSync(join(other, "package.json"), '{ "type": "commonjs" }');
  writeFileSync(
    join(other, "anybroker.config.ts"),
    'import { join } from "node:path";\nexport default { by: join("a") };',
  );
  try {
    const old = await started("node", ["--import", "./older.mjs", source, "top"], other, {}).ended();
    expect(old).toEqual({
      code: 69,
      stdout: "",
      stderr: "anybroker needs Node.js 22.12 or later, and this is 20.19.0\n",
    });
    const { code, stderr } = await started("node", [source, "topology", "show"], other, {}).ended();
    expect([code, stderr]).toEqual([78, expect.stringContaining("rename it to anybroker.config.mts")]);
  } finally {
    rmSync(other, { recursive: true });
  }
});

test("the second Ctrl-C leaves at once", async () => {
  const { child, printed, ended } = anybroker.start(["tail", "order.placed"], { HANG: "close" });
  await printed(/watching order\.placed/);
  child.kill("SIGINT");
  await printed(/press Ctrl-C again to exit at once/);
  child.kill("SIGINT");
  expect((await ended()).code).toBe(130);
});

test("Ctrl-C in a run says where it stands, and the plan that it leaves goes on", async () => {
  const run = anybroker.start(["dlq", "replay", "orders", "all", "--yes", "--rate", "50"], { DEAD: "500" });
  await run.printed(/replay 500 dead letters/);
  const runs = join(anybroker.folder, "anybroker-runs");
  while (!existsSync(runs) || readdirSync(runs).every((name) => !name.endsWith(".journal.jsonl"))) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  run.child.kill("SIGINT");
  const { code, stdout } = await run.ended();
  expect([3, 130]).toContain(code);
  expect(stdout).toMatch(
    /^sent back \d+\nstopped: it was interrupted; .*\ncontinue with: anybroker dlq replay orders --resume /,
  );
  const [, planFile = ""] = /--resume (\S+)/.exec(stdout) ?? [];
  const plan = JSON.parse(readFileSync(join(anybroker.folder, planFile), "utf8")) as {
    readonly entries: readonly object[];
  };
  expect(plan.entries).toHaveLength(500);
  expect(statSync(join(anybroker.folder, planFile)).mode & 0o777).toBe(0o600);
  rmSync(runs, { recursive: true });
});

test.for([
  ["dlq ls orders --limit 1000 --json", { DEAD: "1000" }],
  ["dlq ls orders --limit 1000", { DEAD: "1000" }],
  ["top --interval 100ms", {}],
  ["top --interval 100ms --json", {}],
] as const)("a reader that leaves is no error: %s | head", async ([line, env]) => {
  const script = `{ ${anybroker.shell} ${line}; echo "ended with $?" >&2; } | head -c 20`;
  const { stdout, stderr } = await started("sh", ["-c", script], anybroker.folder, env).ended();
  expect(stdout).toHaveLength(20);
  expect(stderr).toBe("ended with 0\n");
});

test("output that cannot be written is an error", async () => {
  const script = `${anybroker.shell} dlq ls orders --json > /dev/full; echo "ended with $?" >&2`;
  const { stderr } = await started("sh", ["-c", script], anybroker.folder, { DEAD: "1" }).ended();
  expect(stderr).toMatch(/the output cannot be written: ENOSPC.*ended with 73\n$/s);
});

test("messages come through a pipe", async () => {
  const script = `printf '{"id":"o-1"}\\n{"id":"o-2"}\\n' | ${anybroker.shell} send orders --file - --lines --json`;
  const { code, stdout } = await started("sh", ["-c", script], anybroker.folder, {}).ended();
  expect(code).toBe(0);
  expect(documented(stdout.trimEnd())).toMatchObject({ sent: 2, failed: 0 });
});

test("completes commands and options", async () => {
  const complete = async (...words: string[]) =>
    (
      await anybroker.start(["--get-yargs-completions", "anybroker", ...words], { SHELL: "/bin/bash" }).ended()
    ).stdout.split("\n");
  expect(await complete("dlq", "")).toEqual(
    expect.arrayContaining(["ls", "groups", "show", "replay", "discard", "edit"]),
  );
  expect(await complete("dlq", "replay", "--")).toEqual(expect.arrayContaining(["--ramp", "--resume", "--yes"]));
  expect(await complete("bridge", "--content", "")).toEqual(expect.arrayContaining(["dead-letters", "messages"]));
});

test("a client that is not installed is named, by URL and in a configuration", async () => {
  const bare = realpathSync(mkdtempSync(join(tmpdir(), "anybroker-bare-")));
  try {
    for (const part of ["dist", "package.json"])
      cpSync(join(anybroker.folder, part), join(bare, part), { recursive: true });
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      readonly dependencies: object;
    };
    for (const name of Object.keys(dependencies)) {
      mkdirSync(join(bare, "node_modules", name, ".."), { recursive: true });
      symlinkSync(join(ROOT, "node_modules", name), join(bare, "node_modules", name));
    }
    const run = (...line: string[]) => started("node", [join(bare, "dist/cli/main.js"), ...line], bare, {}).ended();
    const byUrl = await run("topology", "show", "queue:orders", "--broker", "amqp://localhost");
    expect([byUrl.code, byUrl.stderr]).toEqual([69, expect.stringContaining("npm install amqplib")]);
    expect((await run("topology", "show", "queue:orders", "--broker", "memory:")).code).toBe(0);
    writeFileSync(
      join(bare, "anybroker.config.mjs"),
      'import { kafka } from "anybroker/kafka";\nexport default { broker: () => kafka({ brokers: "a" }) };\n',
    );
    const configured = await run("topology", "show", "queue:orders");
    expect([configured.code, configured.stderr]).toEqual([69, expect.stringContaining("npm install kafkajs")]);
  } finally {
    rmSync(bare, { recursive: true, force: true });
  }
});

test("the command is the package's, and can be run", () => {
  const { bin } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    readonly bin: Readonly<Record<string, string>>;
  };
  expect(bin).toEqual({ anybroker: "./dist/cli/main.js" });
  expect(readFileSync(join(anybroker.folder, bin.anybroker ?? ""), "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
});

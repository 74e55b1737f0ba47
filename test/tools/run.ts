// `npm test`: every part of the set, also after one has failed, then the conformance table and the sum of all.
// `npm test -- PATTERN…`: only test files whose path contains a pattern. `--broker NAME`: one adapter, without faults.
import { spawn } from "node:child_process";
import { chmodSync, closeSync, globSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { guard } from "../brokers/guard.ts";
import { conformanceTable, isConformanceResult } from "./conformance-table.ts";
import { type PartResult, readJsonLines, readPart } from "./report.ts";
import { summarize } from "./summary.ts";

interface Part {
  readonly name: string;
  readonly command: readonly [program: string, ...args: string[]];
}

/** Each of them has servers of its own, and runs one file at a time. */
const FAULTS = ["faults-rabbitmq", "faults-kafka", "faults-sqs", "faults-stores"] as const;

const root = fileURLToPath(new URL("../..", import.meta.url));
// All that a run writes is in here: the parts take it for the folder of temporary files.
const folder = mkdtempSync(join(tmpdir(), "anybroker-test-run-"));
// Some servers run as another user.
chmodSync(folder, 0o711);
const removal = guard({ kind: "processes", folder });
const conformance = process.env.CONFORMANCE_RESULTS || join(folder, "conformance.jsonl");
const built = join(folder, "build");
const interrupted = new AbortController();
const patterns = patternsOf(process.argv.slice(2));
const steps = patterns.length === 0 ? everything() : selected(patterns);

try {
  if (steps.length === 0) throw new Error(`no test file has ${patterns.join(" or ")} in its path`);
  const results: PartResult[] = [];
  for (const step of steps) {
    if (!interrupted.signal.aborted) results.push(...(await runStep(step)));
  }
  const table = conformanceTable(readJsonLines(conformance).filter(isConformanceResult));
  const summary = summarize(results, process.env.CI === "true");
  if (table) console.log(`\n${table}`);
  console.log(`\n${summary.text}`);
  process.exitCode = interrupted.signal.aborted ? 130 : summary.exitCode;
} finally {
  await removal.release();
}

/** Everything: one step after the other, the parts of a step side by side. */
function everything(): readonly (readonly Part[])[] {
  return [
    [
      { name: "lint", command: ["biome", "check", "."] },
      { name: "unused", command: ["knip"] },
      { name: "types", command: ["tsc", "-p", "tsconfig.json", "--noEmit"] },
      { name: "build", command: ["tsc", "-p", "tsconfig.build.json", "--outDir", built] },
    ],
    [vitest("unit")],
    // These mostly wait. What a fault does to a server disturbs only its own part.
    [vitest("brokers"), ...FAULTS.map((name) => vitest(name))],
  ];
}

/** The parts that have files whose path contains one of the patterns. */
function selected(wanted: readonly string[]): readonly (readonly Part[])[] {
  const files = globSync("test/**/*.test.ts", { cwd: root }).filter((file) => wanted.some((one) => file.includes(one)));
  const isFault = (file: string): boolean => file.endsWith(".faults.test.ts");
  const isBroker = (file: string): boolean => file.endsWith(".broker.test.ts");
  const parts = [
    ...(files.some((file) => !isFault(file) && !isBroker(file)) ? ["unit"] : []),
    ...(files.some(isBroker) ? ["brokers"] : []),
    ...(files.some(isFault) ? FAULTS : []),
  ];
  return parts.length === 0 ? [] : [parts.map((name) => vitest(name, "--passWithNoTests", ...wanted))];
}

/** Patterns as they were given; `--broker NAME` stands for the tests of that adapter which share a server. */
function patternsOf(given: readonly string[]): readonly string[] {
  const [option, name] = given;
  if (option !== "--broker") return given;
  const suites = globSync(`test/adapters/conformance/${name}*.broker.test.ts`, { cwd: root });
  if (suites.length === 0) throw new Error(`--broker ${name}: use rabbitmq, kafka or sqs`);
  return [...suites, ...globSync(`test/adapters/${name}/**/*.broker.test.ts`, { cwd: root })];
}

function vitest(project: string, ...args: readonly string[]): Part {
  return { name: project, command: ["vitest", "run", "--project", project, ...args] };
}

/** Runs the parts of a step, all at once. The first prints as it goes, the others when they have ended. */
function runStep(step: readonly Part[]): Promise<PartResult[]> {
  return Promise.all(step.map((part, index) => runPart(part, index === 0)));
}

async function runPart({ name, command }: Part, live: boolean): Promise<PartResult> {
  const report = join(folder, `${name}.jsonl`);
  const output = join(folder, `${name}.log`);
  if (live) console.log(`\n=== ${name}`);
  const file = live ? undefined : openSync(output, "w");
  try {
    const begin = performance.now();
    const exitCode = await run(command, report, file ?? "inherit");
    const seconds = (performance.now() - begin) / 1_000;
    if (!live) console.log(`\n=== ${name}\n${readFileSync(output, "utf8")}`);
    return readPart(name, exitCode, report, seconds);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Runs a program of node_modules on the Node.js of node_modules, and returns its exit code. */
function run([program, ...args]: Part["command"], report: string, output: "inherit" | number): Promise<number> {
  const child = spawn(program, args, {
    cwd: root,
    env: {
      ...process.env,
      PATH: [join(root, "node_modules/.bin"), process.env.PATH ?? ""].join(delimiter),
      TMPDIR: folder,
      // Worker processes of tests are many, and begin by compiling the same files.
      NODE_COMPILE_CACHE: join(folder, "compile-cache"),
      RUN_REPORT: report,
      CONFORMANCE_RESULTS: conformance,
      ...(patterns.length === 0 ? { TEST_BUILD: built } : {}),
    },
    stdio: ["ignore", output, output],
  });
  // Ctrl-C reaches the part as well: it cleans up first, then the summary of what did run is printed.
  const forward = (signal: NodeJS.Signals) => {
    interrupted.abort();
    if (signal === "SIGTERM") child.kill(signal);
  };
  process.on("SIGINT", forward).on("SIGTERM", forward);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      process.off("SIGINT", forward).off("SIGTERM", forward);
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0));
    });
  });
}

// `npm test`: every part of the set, also after one has failed, then the conformance table and the sum of all.
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { conformanceTable, isConformanceResult } from "./conformance-table.ts";
import { type PartResult, readJsonLines, readPart } from "./report.ts";
import { summarize } from "./summary.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "anybroker-test-run-"));
const conformance = process.env.CONFORMANCE_RESULTS || join(folder, "conformance.jsonl");
const interrupted = new AbortController();

interface Part {
  readonly name: string;
  readonly command: readonly [program: string, ...args: string[]];
}

function vitest(project: string): Part {
  return { name: project, command: ["vitest", "run", "--project", project] };
}

/** A share of a project's test files, with brokers of its own. */
function share(project: string, number: number, of: number): Part {
  const { command } = vitest(project);
  return { name: `${project}-${number}`, command: [...command, "--shard", `${number}/${of}`] };
}

/** How many parts of a step run at once: more would disturb each other by the work that they do have. */
const AT_ONCE = 4;

/** One after the other; those of one step side by side. */
const steps: readonly (readonly Part[])[] = [
  [{ name: "lint", command: ["biome", "check", "."] }],
  [{ name: "types", command: ["tsc", "-p", "tsconfig.json", "--noEmit"] }],
  [vitest("unit")],
  // Tests against brokers mostly wait. Each run has brokers of its own, so what stops one of them disturbs only its own.
  // Those of SQS wait longest, for leases to end.
  [
    vitest("brokers"),
    share("sqs", 1, 3),
    share("sqs", 2, 3),
    share("sqs", 3, 3),
    share("kafka", 1, 2),
    share("kafka", 2, 2),
  ],
];

try {
  const results: PartResult[] = [];
  for (const step of steps) {
    if (interrupted.signal.aborted) break;
    results.push(...(await runStep(step)));
  }
  const table = conformanceTable(readJsonLines(conformance).filter(isConformanceResult));
  const summary = summarize(results, process.env.CI === "true");
  if (table) console.log(`\n${table}`);
  console.log(`\n${summary.text}`);
  process.exitCode = interrupted.signal.aborted ? 130 : summary.exitCode;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Runs the parts of a step, a few at once. */
async function runStep(step: readonly Part[]): Promise<PartResult[]> {
  const waiting = step.entries();
  const results: PartResult[] = [];
  const lane = async (): Promise<void> => {
    for (const [index, part] of waiting) {
      if (interrupted.signal.aborted) return;
      results[index] = await runPart(part, index === 0);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return results.filter((result) => result !== undefined);
}

/** Runs a part. Only the first of a step prints as it goes; what the others printed comes when they have ended. */
async function runPart({ name, command }: Part, live: boolean): Promise<PartResult> {
  const report = join(folder, `${name}.jsonl`);
  const output = join(folder, `${name}.log`);
  if (live) console.log(`\n=== ${name}`);
  const file = live ? undefined : openSync(output, "w");
  try {
    const exitCode = await run(command, report, file ?? "inherit");
    if (!live) console.log(`\n=== ${name}\n${readFileSync(output, "utf8")}`);
    return readPart(name, exitCode, report);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Runs a program of node_modules on the Node.js of node_modules, and returns its exit code. */
function run([program, ...args]: Part["command"], report: string, output: "inherit" | number): Promise<number> {
  const path = [join(root, "node_modules/.bin"), process.env.PATH ?? ""].join(delimiter);
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, PATH: path, RUN_REPORT: report, CONFORMANCE_RESULTS: conformance },
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

// `npm test`: every part of the set, also after one has failed, then the conformance table and the sum of all.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
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

const parts: readonly (readonly [name: string, command: string, ...args: string[]])[] = [
  ["lint", "biome", "check", "."],
  ["types", "tsc", "-p", "tsconfig.json", "--noEmit"],
  ["unit", "vitest", "run", "--project", "unit"],
  ["brokers", "vitest", "run", "--project", "brokers"],
];

try {
  const results: PartResult[] = [];
  for (const [name, command, ...args] of parts) {
    if (interrupted.signal.aborted) break;
    console.log(`\n=== ${name}`);
    const report = join(folder, `${name}.jsonl`);
    results.push(readPart(name, await run(command, args, report), report));
  }
  const table = conformanceTable(readJsonLines(conformance).filter(isConformanceResult));
  const summary = summarize(results, process.env.CI === "true");
  if (table) console.log(`\n${table}`);
  console.log(`\n${summary.text}`);
  process.exitCode = interrupted.signal.aborted ? 130 : summary.exitCode;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Runs a program of node_modules on the Node.js of node_modules, and returns its exit code. */
function run(command: string, args: readonly string[], report: string): Promise<number> {
  const path = [join(root, "node_modules/.bin"), process.env.PATH ?? ""].join(delimiter);
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, PATH: path, RUN_REPORT: report, CONFORMANCE_RESULTS: conformance },
    stdio: ["ignore", "inherit", "inherit"],
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

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { PackageBuild } from "../brokers/broker-desk.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

/** The environment of a child process: the Node.js and the programs of the development dependencies come first. */
export function developmentEnvironment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const PATH = [join(ROOT, "node_modules/.bin"), process.env.PATH ?? ""].join(delimiter);
  return { ...process.env, PATH, ...more };
}

/** Compiles the sources into a temporary folder; with `TEST_BUILD`, somebody has done so already. */
export async function compilePackage(): Promise<PackageBuild> {
  const given = process.env.TEST_BUILD;
  if (given) return { folder: given, remove: () => {} };
  const folder = mkdtempSync(join(tmpdir(), "anybroker-build-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    await run("tsc", ["-p", join(ROOT, "tsconfig.build.json"), "--outDir", folder], {
      cwd: ROOT,
      env: developmentEnvironment(),
    });
  } catch (error) {
    remove();
    throw error;
  }
  return { folder, remove };
}

import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

/** The environment of a child process: the Node.js and the programs of the development dependencies come first. */
export function developmentEnvironment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const PATH = [join(ROOT, "node_modules/.bin"), process.env.PATH ?? ""].join(delimiter);
  return { ...process.env, PATH, ...more };
}

/** A folder that is what the package is after its build, apart from the working tree, so that tests may run at once. */
export interface BuiltPackage {
  readonly folder: string;
  remove(): void;
}

/** Compiles the sources into a temporary folder, with the given other parts of the repository beside them. */
export async function buildPackage(parts: readonly string[] = []): Promise<BuiltPackage> {
  const folder = mkdtempSync(join(tmpdir(), "anybroker-package-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    for (const part of ["package.json", ...parts]) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    await run("tsc", ["-p", join(ROOT, "tsconfig.build.json"), "--outDir", join(folder, "dist")], {
      cwd: ROOT,
      env: developmentEnvironment(),
    });
  } catch (error) {
    remove();
    throw error;
  }
  return { folder, remove };
}

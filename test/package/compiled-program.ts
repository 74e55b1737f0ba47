import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { developmentEnvironment, ROOT } from "./built-package.ts";

const run = promisify(execFile);
const LONGEST_RUN_MS = 300_000;

/**
 * Compiles a program that imports the package by its name, with these options on top of the project's, in a folder of its
 * own below the built package's, and runs what came out. Resolves with what it printed; rejects with what the compiler has
 * to say.
 */
export async function runCompiled(built: string, name: string, code: string, options: object): Promise<string> {
  const folder = join(built, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "program.ts"), code);
  const compilerOptions = {
    ...{ noEmit: false, outDir: "out", rootDir: ".", allowImportingTsExtensions: false },
    ...options,
  };
  const config = { extends: join(ROOT, "tsconfig.json"), compilerOptions, include: ["program.ts"], exclude: [] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const where = { cwd: folder, env: developmentEnvironment(), timeout: LONGEST_RUN_MS };
  await run("tsc", ["-p", folder], where).catch((error: { readonly stdout?: string }) => {
    throw new Error(`tsc refused:\n${error.stdout}`);
  });
  const { stdout } = await run("node", [join("out", "program.js")], where);
  return stdout;
}

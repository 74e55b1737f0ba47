import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildPackage, developmentEnvironment, ROOT } from "./built-package.ts";

const run = promisify(execFile);
const LONGEST_RUN_MS = 300_000;
const TYPESCRIPT_5 = "~5.9.3";

interface Manifest {
  readonly exports: Readonly<Record<string, unknown>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** The package's own manifest. */
export const MANIFEST = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

/** What a user of the package has: a project with the tarball, inversify and one client installed, by npm. */
export interface InstalledPackage {
  /** The project's folder. */
  readonly project: string;
  readonly tarball: string;
  /** The paths in the tarball. */
  readonly files: readonly string[];
  remove(): void;
}

/** The pages of the package. */
export const DOCUMENTS = [
  "README.md",
  "CHANGELOG.md",
  "CODE_OF_CONDUCT.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "llms.txt",
  "LICENSE",
];

/** Builds, packs and installs the package, beside it inversify, a client and TypeScript 5. */
export async function installPackage(client: string): Promise<InstalledPackage> {
  const built = await buildPackage([...DOCUMENTS, "docs", "examples"]);
  // Nowhere below the repository or a node_modules folder of it: what is not installed must not be found.
  const project = mkdtempSync(join(tmpdir(), "anybroker-project-"));
  const remove = (): void => {
    built.remove();
    rmSync(project, { recursive: true, force: true });
  };
  try {
    const env = developmentEnvironment();
    const { stdout } = await run("npm", ["pack", "--json", "--ignore-scripts"], { cwd: built.folder, env });
    const listed: unknown = JSON.parse(stdout);
    // npm 12 names each entry, earlier ones list them.
    const packed = (Array.isArray(listed) ? listed : Object.values(listed as object))[0] as {
      readonly filename: string;
      readonly files: readonly { readonly path: string }[];
    };
    const tarball = join(built.folder, packed.filename);
    const { peerDependencies, devDependencies } = MANIFEST;
    const dependencies = {
      anybroker: `file:${tarball}`,
      inversify: peerDependencies.inversify,
      "reflect-metadata": devDependencies["reflect-metadata"],
      [client]: peerDependencies[client],
      typescript: TYPESCRIPT_5,
    };
    writeFileSync(
      join(project, "package.json"),
      JSON.stringify({ name: "project", private: true, type: "module", dependencies }),
    );
    const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
    await run("npm", ["install", ...quiet], { cwd: project, env });
    return { project, tarball, files: packed.files.map(({ path }) => path), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Runs a program of the development dependencies, or any other; says what it printed if it fails. */
export async function runHere(folder: string, program: string, ...parameters: readonly string[]): Promise<string> {
  try {
    const options = { cwd: folder, env: developmentEnvironment(), timeout: LONGEST_RUN_MS };
    return (await run(program, [...parameters], options)).stdout;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { readonly stdout?: string; readonly stderr?: string };
    throw new Error(`${program} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

/** Runs JavaScript as a program of the project. It has to end by itself, within a minute. */
export async function runProgram(project: string, code: string): Promise<string> {
  const file = join(project, "program.mjs");
  writeFileSync(file, code);
  try {
    return await runHere(project, "node", file);
  } finally {
    rmSync(file);
  }
}

import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage, developmentEnvironment, ROOT } from "./built-package.ts";

const run = promisify(execFile);
const env = developmentEnvironment();

let built: BuiltPackage;
/** A project that depends on the tarball and on nothing else. */
let project: string;
let packed: { readonly filename: string; readonly files: readonly { readonly path: string }[] };

beforeAll(async () => {
  built = await buildPackage(["README.md", "CHANGELOG.md", "LICENSE", "examples", "tsconfig.json"]);
  const { stdout } = await run("npm", ["pack", "--json", "--ignore-scripts"], { cwd: built.folder, env });
  const listed: unknown = JSON.parse(stdout);
  // npm 12 names each entry, earlier ones list them.
  packed = (Array.isArray(listed) ? listed : Object.values(listed as object))[0];
  // Nowhere below the repository or a node_modules folder of it: what is not installed must not be found.
  project = mkdtempSync(join(tmpdir(), "anybroker-project-"));
  const manifest = { name: "project", private: true, type: "module" };
  writeFileSync(join(project, "package.json"), JSON.stringify(manifest));
  const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  await run("npm", ["install", ...quiet, join(built.folder, packed.filename)], { cwd: project, env });
}, 120_000);

afterAll(() => {
  built.remove();
  rmSync(project, { recursive: true, force: true });
});

async function node(code: string): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const file = join(project, "program.mjs");
  writeFileSync(file, code);
  try {
    return await run("node", [file], { cwd: project, env });
  } finally {
    rmSync(file);
  }
}

test("the tarball holds what users need and nothing else", () => {
  const paths = packed.files.map(({ path }) => path);
  const others = paths.filter(
    (path) => !/^dist\/(core|adapters|patterns|integrations|cli|test\/conformance)\/.*\.(js|d\.ts)$/.test(path),
  );
  expect(others.sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "package.json"]);
  expect(paths).toContain("dist/core/index.js");
  expect(paths).toContain("dist/core/index.d.ts");
});

test("nothing is run when it is installed", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };
  for (const name of ["preinstall", "install", "postinstall", "prepare"]) expect(scripts).not.toHaveProperty(name);
});

test("without any client the entry and the in-process broker work", async () => {
  const { stdout } = await node(`
    import { createBroker, queue } from "anybroker";
    import { memory } from "anybroker/memory";
    const broker = createBroker(memory());
    const done = new Promise((resolve) => broker.consume(queue("orders"), (body) => resolve(body)));
    await broker.start();
    await broker.send(queue("orders"), "hello");
    console.log(await done);
    await broker.stop();
  `);
  expect(stdout).toBe("hello\n");
});

test("an adapter without its client says which package is missing", async () => {
  const { stdout } = await node(`
    const error = await import("anybroker/rabbitmq").catch((error) => error);
    console.log(error.code, error.message);
  `);
  expect(stdout).toMatch(/^ERR_MODULE_NOT_FOUND Cannot find package 'amqplib'/);
});

test("what is not exported cannot be imported", async () => {
  const { stdout } = await node(`
    console.log((await import("anybroker/dist/core/index.js").catch((error) => error)).code);
  `);
  expect(stdout).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED\n");
});

test.for(["nodenext", "bundler"])(
  "the types compile with module resolution %s, libraries checked too",
  async (resolution) => {
    const folder = join(project, resolution);
    mkdirSync(folder);
    cpSync(join(ROOT, "test/package/consumer.ts"), join(folder, "consumer.ts"));
    const options = {
      strict: true,
      noEmit: true,
      target: "es2024",
      // The strictest there is: someone else's options must not break on our declarations.
      exactOptionalPropertyTypes: true,
      module: resolution === "bundler" ? "esnext" : resolution,
      moduleResolution: resolution,
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules/@types")],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["consumer.ts"] }));
    await run("tsc", ["-p", folder], { cwd: folder, env }).catch((error: { stdout?: string }) => {
      throw new Error(`tsc refused:\n${error.stdout}`);
    });
  },
);

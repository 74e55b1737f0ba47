import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { undocumented } from "./docstrings.ts";
import { ROOT, sourcesIn } from "./sources.ts";

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
const entries = Object.entries(manifest.exports).flatMap(([name, targets]) =>
  typeof targets === "string" ? [] : [{ name, ...targets }],
);
const sourceOf = (target: string): string => target.replace(/^\.\/dist\//, "").replace(/\.js$/, ".ts");

function foldersWithIndex(parent: string): string[] {
  const folder = join(ROOT, parent);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => existsSync(join(folder, name, "index.ts")));
}

/** Stores that are one file, such as `postgres-store.ts`; the one in memory is part of its pattern's entry. */
function storesIn(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder)).map((name) => /^(\w+)-store\.ts$/.exec(name)?.[1]);
  return names.filter((name) => name !== undefined && name !== "memory" && name !== "inbox") as string[];
}

describe("the entry points", () => {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage();
  });

  afterAll(() => built.remove());

  test("each adapter, pattern and suite has one, and each is of a source", () => {
    const below = (parent: string, name: (folder: string) => string): string[] => foldersWithIndex(parent).map(name);
    const folders = below("adapters", (adapter) => `./${adapter}`);
    const suites = below("conformance", (pattern) => `./${pattern}/conformance`);
    for (const pattern of below("patterns", (name) => name)) {
      folders.push(`./${pattern}`, ...below(`patterns/${pattern}`, (part) => `./${pattern}/${part}`));
      folders.push(...storesIn(`patterns/${pattern}`).map((store) => `./${pattern}/${store}`));
    }
    folders.push(...below("integrations", (integration) => `./${integration}`));
    expect(entries.map(({ name }) => name).sort()).toEqual(
      [".", "./adapter", "./cli", "./conformance", ...suites, ...folders].sort(),
    );
    for (const entry of entries) {
      expect(existsSync(join(ROOT, sourceOf(entry.default))), entry.default).toBe(true);
      expect(entry.types).toBe(entry.default.replace(/\.js$/, ".d.ts"));
    }
    expect(manifest.exports["./package.json"]).toBe("./package.json");
  });

  test("are all there after the build, and can be imported", async () => {
    for (const entry of entries) {
      expect(existsSync(join(built.folder, entry.types)), entry.types).toBe(true);
      const module = (await import(join(built.folder, entry.default))) as object;
      expect(Object.keys(module), entry.name).not.toEqual([]);
    }
  });

  test.for(entries)("$name says what each exported symbol is", (entry) => {
    expect(undocumented(sourceOf(entry.default))).toEqual([]);
  });
});

test("clients are optional peers, and every dependency is used", () => {
  const imported = sourcesIn("core", "sql", "adapters", "patterns", "integrations", "cli").map(({ text }) => text);
  for (const name of [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]) {
    expect(
      imported.some((text) => text.includes(`from "${name}`)),
      name,
    ).toBe(true);
  }
  for (const [name, range] of Object.entries(manifest.peerDependencies)) {
    expect(manifest.peerDependenciesMeta[name], name).toEqual({ optional: true });
    // What is used of kafkajs' inside is tested with one version.
    expect(manifest.devDependencies[name], name).toBe(name === "kafkajs" ? range.replace("~", "") : range);
  }
});

test("an undocumented symbol is found", () => {
  expect(undocumented("test/house/fixtures/entry.ts").sort()).toEqual([
    "test/house/fixtures/symbols.ts: Bare",
    "test/house/fixtures/symbols.ts: bare",
  ]);
});

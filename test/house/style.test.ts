import { globSync } from "node:fs";
import { basename, matchesGlob } from "node:path";
import { expect, test } from "vitest";
import config from "../../vitest.config.ts";
import { codeOf, ROOT, type Source, sourcesIn } from "./sources.ts";

const shipped = sourcesIn("core", "sql", "adapters", "patterns", "integrations", "cli");
const all = [...shipped, ...sourcesIn("examples", "test", "bench", "integrations", "cli")];

/** Every line of code that matches, as `path:line: text`. */
function found(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, text }) =>
    codeOf(text)
      .split("\n")
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
}

test("comments and strings are no code", () => {
  const text = 'const a = "any"; // any\n/* any\nany */ let b: any;\n';
  expect(codeOf(text)).toBe('const a = ""; \n\n let b: any;\n');
  expect(found([{ path: "x.ts", text }], /\bany\b/)).toEqual(["x.ts:3: let b: any;"]);
});

test("files are named in kebab-case", () => {
  const odd = all.filter(({ path }) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9-]+)*\.ts$/.test(basename(path)));
  expect(odd.map(({ path }) => path)).toEqual([]);
});

test("no module holds state", () => {
  expect(found(shipped, /^(export\s+)?(let|var)\s/)).toEqual([]);
  // A table that is written down is no state; something empty is there to be filled, unless its type forbids it.
  const empty = /^(export\s+)?const\s+\w+(?!.*\bReadonly).*=\s*new\s+(Map|Set|WeakMap|WeakSet|Array)(<.*>)?\(\)/;
  expect(found(shipped, empty)).toEqual([]);
});

test("nothing is of type any", () => {
  expect(found(all, /(:|<|\bas|\||&|,|=>)\s*any\b|\bany\[\]/)).toEqual([]);
});

test("every test file is of one project", () => {
  const { projects = [] } = (config as { test?: { projects?: readonly object[] } }).test ?? {};
  const homes = projects.map((project) => (project as { test: { include: string[]; exclude?: string[] } }).test);
  const isOf = (path: string) => (pattern: string) => matchesGlob(path, pattern);
  for (const path of globSync("test/**/*.test.ts", { cwd: ROOT })) {
    const found = homes.filter(({ include, exclude = [] }) => include.some(isOf(path)) && !exclude.some(isOf(path)));
    expect(found.length, path).toBe(1);
  }
});

test("no test is left out or singled out", () => {
  expect(
    found(all, /\b(test|it|describe|suite)\.(only|todo|fails|skip(?!\?\.\(`(?:NOT RUN|not applicable)))\b/),
  ).toEqual([]);
});

test("only errors are extended", () => {
  expect(found(shipped, /\bclass\s+\w+(<[^{]*>)?\s+extends\s+(?!Error\b)/)).toEqual([]);
});

test("members are private by #, and nothing is left for later", () => {
  expect(found(shipped, /^\s*(private|protected|public)\s(?!constructor\b)/)).toEqual([]);
  const marks = all.filter(
    ({ path, text }) => !path.startsWith("test/house/") && /\b(TODO|FIXME|XXX|HACK)\b/.test(text),
  );
  expect(marks.map(({ path }) => path)).toEqual([]);
});

test("errors show the ids that senders chose on one line, and cut", () => {
  // The command cleans all that it prints, and prints ids whole, to be copied.
  const sources = sourcesIn("core", "adapters", "patterns", "integrations");
  const raw = /\b(message|letter|entry) "?\$\{(?!shownId\()[\w.?]*\bid\}/;
  const lines = sources.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line) => (raw.test(line) ? [`${path}: ${line.trim()}`] : [])),
  );
  expect(lines).toEqual([]);
});

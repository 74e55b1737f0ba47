import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../house/sources.ts";

const text = readFileSync(join(ROOT, "docs/architecture.md"), "utf8");

test("every file and folder that the tour names exists", () => {
  const paths = [
    ...text.matchAll(/`((?:core|sql|adapters|patterns|integrations|conformance|cli|test)\/[^`\s]*)`/g),
  ].map(([, path]) => path as string);
  expect(paths.length).toBeGreaterThan(50);
  expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

test("every name that stands beside a file is in it", () => {
  const rows = [...text.matchAll(/`([a-z-]+\/[^`\s]+\.ts)` \| `(\w+)`/g)].map(([, path, name]) => [path, name]);
  expect(rows.length).toBeGreaterThan(20);
  const missing = rows.filter(([path = "", name]) => {
    const source = readFileSync(join(ROOT, path), "utf8");
    return !new RegExp(`\\b(?:class|function|const|interface|type) ${name}\\b`).test(source);
  });
  expect(missing).toEqual([]);
});

test("no row of the tour names a file without a name in it", () => {
  expect(text.match(/^\|.*\| +\|.*$/gm) ?? []).toEqual([]);
});

test("the pages stay short: 35,000 words in docs/, 9,000 in its guides, 8 kB of README", () => {
  const wordsIn = (folder: string): number =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith(".md"))
      .map(
        (name) =>
          readFileSync(join(ROOT, folder, name), "utf8")
            .trim()
            .split(/\s+/).length,
      )
      .reduce((sum, count) => sum + count, 0);
  expect(wordsIn("docs")).toBeLessThanOrEqual(35_000);
  expect(wordsIn("docs/guides")).toBeLessThanOrEqual(9_000);
  expect(readFileSync(join(ROOT, "README.md")).length).toBeLessThanOrEqual(8 * 1024);
});

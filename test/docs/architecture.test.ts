import { existsSync, readFileSync } from "node:fs";
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

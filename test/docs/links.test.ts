import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../package/built-package.ts";
import { DOCUMENTS } from "./snippets.ts";

const LINK = /\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g;

/** The anchors that GitHub gives to the headings of a document. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replaceAll(/\s/g, "-"),
  );
}

test.for(DOCUMENTS)("the links of %s lead somewhere", (file) => {
  const text = readFileSync(join(ROOT, file), "utf8");
  const broken = [...text.matchAll(LINK)].flatMap(([link, path = "", anchor]) => {
    const target = path === "" ? join(ROOT, file) : join(ROOT, dirname(file), path);
    if (!existsSync(target)) return [link];
    return anchor === undefined || anchors(readFileSync(target, "utf8")).includes(anchor) ? [] : [link];
  });
  expect(broken).toEqual([]);
});

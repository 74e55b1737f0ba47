import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CONTENTS } from "../../site/contents.ts";
import { llms } from "../../site/pages.ts";
import { ROOT } from "../house/sources.ts";
import { capabilitiesTable, errorCodes, errorsTable, readMarked, writeMarked } from "./generated.ts";
import { DOCUMENTS } from "./snippets.ts";

const UPDATE = process.env.UPDATE === "1";
const HOW = "made from the sources; run UPDATE=1 npx vitest run test/docs/generated.test.ts, and look at what changed";

test.for([
  ["capabilities", "docs/capabilities.md", capabilitiesTable],
  ["errors", "docs/errors.md", errorsTable],
] as const)("the table of %s in %s is the sources'", ([name, page, make]) => {
  if (UPDATE) writeMarked(page, name, make());
  expect(readMarked(page, name), HOW).toBe(make());
});

test("every error code is in its table", () => {
  const codes = errorCodes();
  expect(codes).toContain("unconfirmed");
  expect([...errorsTable().matchAll(/^\| `([a-z-]+)`/gm)].map(([, code]) => code).sort()).toEqual([...codes].sort());
});

test("llms.txt lists the pages", () => {
  const file = join(ROOT, "llms.txt");
  if (UPDATE) writeFileSync(file, llms());
  expect(readFileSync(file, "utf8"), HOW).toBe(llms());
});

test("every page is in the contents of the site", () => {
  const listed = new Set(CONTENTS.flatMap(({ pages }) => pages));
  expect(DOCUMENTS.filter((page) => !page.startsWith("examples/") && !listed.has(page))).toEqual([]);
});

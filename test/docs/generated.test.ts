import { expect, test } from "vitest";
import { capabilitiesTable, errorCodes, errorsTable, readMarked, writeMarked } from "./generated.ts";

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

import { expect, test } from "vitest";
import { errorCodes, errorsTable, guaranteesTable, readMarked, writeMarked } from "./generated.ts";

const UPDATE = process.env.UPDATE === "1";
const HOW = "made from the sources; run UPDATE=1 npx vitest run test/docs/generated.test.ts, and look at what changed";

test.for([
  ["guarantees", guaranteesTable],
  ["errors", errorsTable],
] as const)("the README's table of %s is the sources'", ([name, make]) => {
  if (UPDATE) writeMarked("README.md", name, make());
  expect(readMarked("README.md", name), HOW).toBe(make());
});

test("every error code is in its table", () => {
  const codes = errorCodes();
  expect(codes).toContain("unconfirmed");
  expect([...errorsTable().matchAll(/^\| `([a-z-]+)`/gm)].map(([, code]) => code).sort()).toEqual([...codes].sort());
});

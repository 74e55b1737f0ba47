import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BROKERS } from "../../../integrations/url/from-url.ts";
import { readMarked, writeMarked } from "../../docs/generated.ts";
import { ROOT } from "../../package/built-package.ts";
import { optionsTable } from "./options-table.ts";

const FILE = "docs/urls.md";
const UPDATE = process.env.UPDATE === "1";
const HOW = "made from the sources; run UPDATE=1 npx vitest run test/integrations/url, and look at what changed";

test.for(Object.values(BROKERS))("the table of the options of $name is the sources'", ({ name }) => {
  const table = optionsTable(name);
  expect(table.split("\n").filter((row) => row.endsWith("|  |"))).toEqual([]);
  if (UPDATE) writeMarked(FILE, name, table);
  expect(readMarked(FILE, name), HOW).toBe(table);
});

test("every scheme, every package and every form is in the documentation", () => {
  const text = readFileSync(join(ROOT, FILE), "utf8");
  for (const { schemes, packages, form } of Object.values(BROKERS)) {
    for (const scheme of schemes) expect(text).toContain(`\`${scheme}:`);
    if (packages.length > 0) expect(text).toContain(`npm install ${packages.join(" ")}`);
    expect(text).toContain(form);
  }
});

test("the packages to install are the package's own peers", () => {
  const { peerDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    readonly peerDependencies: Readonly<Record<string, string>>;
  };
  for (const wanted of Object.values(BROKERS).flatMap(({ packages }) => packages)) {
    const [, name = "", range] = /^(.[^@]*)(?:@(.*))?$/.exec(wanted) ?? [];
    expect(peerDependencies, wanted).toHaveProperty([name]);
    // A range that npm's newest might leave has to be said.
    if (range !== undefined || !peerDependencies[name]?.startsWith("^")) expect(range).toBe(peerDependencies[name]);
  }
});

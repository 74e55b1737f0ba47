import { expect, test } from "vitest";
import { type Import, importsOf, type Source, sourcesIn } from "./sources.ts";

const CORE_PACKAGES = ["uuid", "secure-json-parse"];
const CORE_TYPES = ["@standard-schema/spec"];
/** What each integration is for; nobody else knows it. */
const FRAMEWORKS: Readonly<Record<string, readonly string[]>> = { inversify: ["inversify"] };
/** The client libraries of each adapter; nobody else knows them. */
const CLIENTS: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  rabbitmq: ["amqplib"],
  kafka: ["kafkajs"],
  sqs: ["@aws-sdk/client-sns", "@aws-sdk/client-sqs"],
};

function offences(sources: readonly Source[], allowed: (wanted: Import, source: Source) => boolean): string[] {
  return sources.flatMap((source) =>
    importsOf(source)
      .filter((wanted) => !wanted.specifier.startsWith("node:") && !allowed(wanted, source))
      .map(({ specifier }) => `${source.path} imports ${specifier}`),
  );
}

const within = (folder: string, { target }: Import): boolean => target?.startsWith(`${folder}/`) === true;
const folderOf = ({ path }: Source): string => path.split("/").slice(0, 2).join("/");

test("imports are found, whatever they look like", () => {
  const text = `
import a from "a";
import type { B } from "b";
import {
  c,
} from "../c.ts";
export * from "./d.ts";
import "e";
// import "not";
/* import "nor"; */
const f = await import("f");
const text = 'from "nowhere"';
`;
  const found = importsOf({ path: "core/publish/x.ts", text });
  expect(found.map(({ specifier }) => specifier)).toEqual(["a", "b", "../c.ts", "./d.ts", "e", "f"]);
  expect(found[1]?.typeOnly).toBe(true);
  expect(found[2]?.target).toBe("core/c.ts");
});

test("core imports itself and its few dependencies", () => {
  const sources = sourcesIn("core");
  expect(sources.length).toBeGreaterThan(20);
  const allowed = (wanted: Import): boolean =>
    within("core", wanted) ||
    CORE_PACKAGES.includes(wanted.specifier) ||
    (wanted.typeOnly && CORE_TYPES.includes(wanted.specifier));
  expect(offences(sources, allowed)).toEqual([]);
});

test("an adapter imports core, itself and its own client", () => {
  const sources = sourcesIn("adapters");
  expect([...new Set(sources.map((source) => folderOf(source).split("/")[1]))].sort()).toEqual(
    Object.keys(CLIENTS).sort(),
  );
  const allowed = (wanted: Import, source: Source): boolean =>
    within("core", wanted) ||
    within(folderOf(source), wanted) ||
    (CLIENTS[folderOf(source).split("/")[1] ?? ""] ?? []).some(
      (client) => wanted.specifier === client || wanted.specifier.startsWith(`${client}/`),
    );
  expect(offences(sources, allowed)).toEqual([]);
});

test("what speaks SQL for stores imports core and itself", () => {
  const sources = sourcesIn("sql");
  expect(sources).not.toEqual([]);
  expect(offences(sources, (wanted) => within("core", wanted) || within("sql", wanted))).toEqual([]);
});

test("a pattern imports core, sql and itself", () => {
  const allowed = (wanted: Import, source: Source): boolean =>
    ["core", "sql", folderOf(source)].some((folder) => within(folder, wanted));
  expect(offences(sourcesIn("patterns"), allowed)).toEqual([]);
});

test("an integration imports what is below it, itself and its own framework", () => {
  const sources = sourcesIn("integrations");
  expect(sources).not.toEqual([]);
  const allowed = (wanted: Import, source: Source): boolean =>
    ["core", "sql", "adapters", "patterns", folderOf(source)].some((folder) => within(folder, wanted)) ||
    (FRAMEWORKS[folderOf(source).split("/")[1] ?? ""] ?? []).includes(wanted.specifier) ||
    (wanted.typeOnly && CORE_TYPES.includes(wanted.specifier));
  expect(offences(sources, allowed)).toEqual([]);
});

test("the conformance suites import core, patterns and themselves", () => {
  const sources = sourcesIn("conformance");
  expect(sources).not.toEqual([]);
  const allowed = (wanted: Import): boolean =>
    ["core", "patterns", "conformance"].some((folder) => within(folder, wanted)) ||
    (wanted.typeOnly && CORE_TYPES.includes(wanted.specifier));
  expect(offences(sources, allowed)).toEqual([]);
});

test("examples import the package by its name, as users do", () => {
  const allowed = (wanted: Import, source: Source): boolean =>
    [folderOf(source), "examples/shared"].some((folder) => within(folder, wanted)) ||
    /^(anybroker(\/.+)?|hono(\/.+)?|@hono\/node-server|inversify|reflect-metadata|pg|zod)$/.test(wanted.specifier);
  const sources = sourcesIn("examples");
  expect(sources).not.toEqual([]);
  expect(offences(sources, allowed)).toEqual([]);
});

test("nothing that is shipped imports the tests or the benchmarks", () => {
  const shipped = sourcesIn("core", "sql", "adapters", "patterns", "integrations", "conformance", "cli");
  expect(offences(shipped, (wanted) => !within("test", wanted) && !within("bench", wanted))).toEqual([]);
});

test("no two files import each other, directly or by others", () => {
  const sources = sourcesIn("core", "sql", "adapters", "patterns", "integrations", "conformance", "cli");
  const wanted = new Map(
    sources.map((source) => [source.path, importsOf(source).flatMap(({ target }) => target ?? [])]),
  );
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (path: string, way: readonly string[]): void => {
    const before = way.indexOf(path);
    if (before >= 0) circles.push([...way.slice(before), path].join(" > "));
    if (before >= 0 || done.has(path)) return;
    for (const next of wanted.get(path) ?? []) if (next !== path) walk(next, [...way, path]);
    done.add(path);
  };
  for (const { path } of sources) walk(path, []);
  expect(circles).toEqual([]);
});

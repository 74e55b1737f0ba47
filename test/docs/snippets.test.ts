import { stripTypeScriptTypes } from "node:module";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SnippetPrograms } from "./snippet-programs.ts";
import { allSnippets, snippetsOf } from "./snippets.ts";

const snippets = allSnippets();
let programs: SnippetPrograms;

beforeAll(async () => {
  programs = await SnippetPrograms.of(snippets);
});

afterAll(() => programs.remove());

test("snippets are found with their kind and what they print", () => {
  const fence = "```";
  const text = `a\n${fence}ts\none\n${fence}\n\n${fence}text\nprinted\n${fence}\n${fence}ts rabbitmq\ntwo\n${fence}\n${fence}ts kafka\nthree\n${fence}\n${fence}sh\nno\n${fence}\n`;
  expect(snippetsOf("x.md", text)).toEqual([
    { file: "x.md", line: 3, kind: "run", code: "one\n", output: "printed\n" },
    { file: "x.md", line: 10, kind: "rabbitmq", code: "two\n", output: undefined },
    { file: "x.md", line: 13, kind: "kafka", code: "three\n", output: undefined },
  ]);
  expect(() => snippetsOf("x.md", `${fence}ts norun\n${fence}\n`)).toThrow('x.md: "ts norun" is not known');
});

test("sketches are TypeScript", () => {
  for (const { code } of snippets.filter(({ kind }) => kind === "sketch")) {
    expect(stripTypeScriptTypes(code)).not.toBe("");
  }
  expect(() => stripTypeScriptTypes("const = 1;")).toThrow();
});

test("every snippet compiles", async () => {
  expect(snippets.filter(({ file }) => file === "README.md").length).toBeGreaterThan(1);
  expect(await programs.compile()).toBe("");
});

test.for(snippets.filter(({ kind }) => kind === "run" || kind === "decorators"))(
  "$file, line $line, runs",
  async (snippet) => {
    const printed = await programs.run(snippet);
    if (snippet.output !== undefined) expect(printed).toBe(snippet.output);
  },
);

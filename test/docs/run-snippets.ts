import { afterAll, beforeAll, expect, test } from "vitest";
import { SnippetPrograms } from "./snippet-programs.ts";
import { allSnippets, type Snippet } from "./snippets.ts";

/** Names that the programs have for themselves on a broker. */
interface Place {
  readonly namePrefix: string;
  remove(): Promise<void>;
}

/** Runs the programs, with another word for where the broker is, and destinations of their own. */
export function runSnippets<Own extends Place>(
  kind: Snippet["kind"],
  newPlace: () => Own | Promise<Own>,
  located: (code: string, place: Own) => string,
): void {
  const snippets = allSnippets().filter((snippet) => snippet.kind === kind);
  let place: Own;
  let programs: SnippetPrograms;

  beforeAll(async () => {
    place = await newPlace();
    programs = await SnippetPrograms.of(snippets, (code) =>
      located(code, place).replaceAll(/\b(queue|topic)((?:<[^>]*>)?)\("/g, `$1$2("${place.namePrefix}`),
    );
  });

  afterAll(async () => {
    programs.remove();
    await place.remove();
  });

  test.for(snippets)("$file, line $line, runs", async (snippet) => {
    const printed = await programs.run(snippet);
    if (snippet.output !== undefined) expect(printed).toBe(snippet.output);
  });
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXIT } from "../../cli/exit-codes.ts";
import { parse } from "../../cli/parser.ts";
import { GROUPS, VERBS } from "../../cli/verbs/index.ts";
import { readMarked, writeMarked } from "../docs/generated.ts";
import { ROOT } from "../package/built-package.ts";
import { command } from "./commands.ts";
import { COMMON, commandsReference, exitsTable } from "./reference.ts";

const HOW = "made from the commands; run UPDATE=1 npx vitest run --project unit test/cli/reference.test.ts";

test.for([
  ["exits", exitsTable],
  ["commands", commandsReference],
] as const)("docs/cli.md has the %s as the commands define them", ([name, make]) => {
  if (process.env.UPDATE === "1") writeMarked("docs/cli.md", name, make());
  expect(readMarked("docs/cli.md", name), HOW).toBe(make());
});

test.for(VERBS.map(({ name }) => name))("%s teaches in its help, and has what every command has", async (name) => {
  const definition = VERBS.find((one) => one.name === name);
  const { code, stdout, stderr } = await command([...name.split(" "), "--help"]);
  expect([code, stderr]).toEqual([0, ""]);
  const help = stdout.replaceAll(/\s+/g, " ");
  expect(help).toContain(definition?.teaches.replaceAll(/\s+/g, " "));
  expect(help).toContain(`Examples: anybroker ${name}`);
  for (const option of Object.keys(definition?.options ?? {})) {
    expect(help).toContain(`--${option} `);
    expect(COMMON).not.toContain(option);
  }
  for (const option of COMMON) expect(help).toContain(`--${option} `);
  for (const exit of Object.keys(definition?.exits ?? {})) expect(Object.keys(EXIT)).toContain(exit);
});

test.for(VERBS)("the examples of $name can be read", async ({ examples }) => {
  for (const [line] of examples) {
    // What follows a pipe or goes to a file is the shell's.
    const [own = ""] = line.split(/ [|>] /);
    const words = [...own.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? "");
    const parsed = await parse(words, undefined);
    expect("verb" in parsed && line.startsWith(parsed.verb.name), line).toBe(true);
  }
});

test("every command that changes something has a dry run, and what removes or moves asks", () => {
  const changing = [
    "topology create",
    "send",
    "publish",
    "dlq replay",
    "dlq discard",
    "dlq edit",
    "outbox retry",
    "outbox prune",
  ];
  const moving = ["bridge", "migrate advance", "migrate rollback"];
  for (const name of [...changing, ...moving]) {
    expect(Object.keys(VERBS.find((one) => one.name === name)?.options ?? {}), name).toContain("dry-run");
  }
  const asking = VERBS.filter(({ options }) => "yes" in options).map(({ name }) => name);
  expect(asking.sort()).toEqual(["dlq replay", "dlq discard", "dlq edit", "outbox prune", ...moving].sort());
});

test("help, version and completion", async () => {
  const { code, stdout } = await command(["--help"]);
  expect(code).toBe(0);
  for (const { name } of VERBS) expect(stdout).toContain(`anybroker ${name.split(" ")[0]}`);
  for (const group of Object.keys(GROUPS)) {
    const groupHelp = (await command([group, "--help"])).stdout;
    for (const { name } of VERBS.filter((one) => one.name.startsWith(`${group} `)))
      expect(groupHelp).toContain(`anybroker ${name}`);
    expect((await command([group])).code).toBe(64);
  }
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  expect((await command(["--version"])).stdout).toBe(`${version}\n`);
  expect((await command(["completion"])).stdout).toContain("anybroker --get-yargs-completions");
  const none = await command([]);
  expect([none.code, none.stdout, none.stderr]).toEqual([64, "", expect.stringContaining("anybroker --help")]);
});

describe("a command line that makes no sense is answered as by a person, with an example", () => {
  const wrong: readonly (readonly [line: readonly string[], says: string])[] = [
    [["toplogy"], 'there is no command "toplogy": did you mean "topology"? anybroker --help lists the commands'],
    [["xyzzy"], 'there is no command "xyzzy": anybroker --help lists the commands'],
    [["frob"], 'there is no command "frob": anybroker --help lists the commands'],
    [["dlq", "frob"], 'there is no command "dlq frob": anybroker dlq --help lists the commands'],
    [["dlq", "frob", "orders"], 'there is no command "dlq frob": anybroker dlq --help lists the commands'],
    [["dlq", "--broker", "memory:", "lst", "orders"], 'there is no command "dlq lst": did you mean "dlq ls"?'],
    [["dlq", "lss"], 'there is no command "dlq lss": did you mean "dlq ls"? anybroker dlq --help lists the commands'],
    [["dlq", "ls"], '"dlq ls" needs <destination> (whose dead letters: orders'],
    [["dlq", "ls"], "; as in: anybroker dlq ls orders (see anybroker dlq ls --help)"],
    [["dlq", "show", "orders"], '"dlq show" needs <id> (the id of the entry, or of the message)'],
    [["bridge", "orders"], '"bridge" needs --to (the broker to move them to)'],
    [["top", "--onec"], '"top" has no option --onec (did you mean --once?); as in: anybroker top'],
    [["top", "--on-sec"], '"top" has no option --on-sec; as in'],
    [["top", "-q"], '"top" has no option -q'],
    [["send", "a", "b", "c", "d"], '"send" takes fewer words: c, d is too much; quote words with spaces'],
    [["top", "--broker"], "--broker takes a value"],
    [["bridge", "a", "--to", "b", "--rate", "x"], "--rate takes a number; as in: anybroker bridge orders --from amqp:"],
    [["bridge", "a", "--to", "b", "--content", "x"], '--content takes one of "messages", "dead-letters", not "x"'],
  ];
  test.for(wrong)("%j", async ([line, says]) => {
    const { code, stdout, stderr } = await command(line);
    expect([code, stdout]).toEqual([64, ""]);
    expect(stderr).toContain(says);
    expect(stderr).not.toMatch(/argument|non-option|onSec/);
  });

  test("whichever command it is", async () => {
    for (const { name, positionals, options } of VERBS) {
      const required = [...Object.values(positionals), ...Object.values(options)].some(
        ({ demandOption }) => demandOption === true,
      );
      const { code, stderr } = await command([...name.split(" "), ...(required ? [] : ["--no-such-option"])]);
      expect([name, code]).toEqual([name, 64]);
      expect(stderr).toMatch(
        new RegExp(`^anybroker: "${name}" .*; as in: anybroker ${name}.*\\(see anybroker ${name} --help\\)\\n$`, "s"),
      );
    }
  });
});

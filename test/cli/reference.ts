import type { Options } from "yargs";
import { EXIT, EXIT_MEANING, type ExitName } from "../../cli/exit-codes.ts";
import { COMMON_OPTIONS, usageOf } from "../../cli/parser.ts";
import type { Verb } from "../../cli/verb.ts";
import { VERBS } from "../../cli/verbs/index.ts";

/** The exits of all commands, as a table. */
export function exitsTable(): string {
  const rows = Object.entries(EXIT).map(
    ([name, code]) => `| ${code} | \`${name}\` | ${EXIT_MEANING[name as ExitName]} |`,
  );
  return ["| Code | Name | Meaning |", "|---|---|---|", ...rows].join("\n");
}

/**
 * Everything that the commands say of themselves. Said once: what an earlier command says in the same words, and what
 * the page says of all of them (empty texts, and `EVERYWHERE`).
 */
export function commandsReference(): string {
  const said: Said = new Map();
  return VERBS.map((verb) => sectionOf(verb, said)).join("\n\n");
}

/** By which command something was said first, by its name and text. */
type Said = Map<string, string>;

/** Arguments and options that the page describes once for all commands, whatever each says in its help. */
const EVERYWHERE: readonly string[] = [
  "dry-run",
  "yes",
  "destination",
  "destinations",
  "message",
  "filter",
  "id",
  "source",
];

/** Fields that the page describes once for all commands. */
const FIELDS_EVERYWHERE: readonly string[] = ["broker", "destination", "dryRun"];

function sectionOf(verb: Verb, said: Said): string {
  const { name, teaches, examples, json, streams, exits } = verb;
  const example = examples.find(([line]) => line !== name);
  const described = [
    ...Object.entries(verb.positionals).map(([word, one]) => [word, `\`<${word}>\``, one.describe ?? ""] as const),
    ...Object.entries(verb.options).map(([option, one]) => [option, optionOf(option, one), describe(one)] as const),
  ].filter(([argument]) => !EVERYWHERE.includes(argument));
  const fields = Object.entries(json).map(([field, what]) => [field, `\`${field}\``, what] as const);
  const bare = fields
    .filter(([field, , what]) => what === "" && !FIELDS_EVERYWHERE.includes(field))
    .map(([, written]) => written);
  const own = once(name, described, said);
  const known = once(
    name,
    fields.filter(([, , what]) => what !== ""),
    said,
  );
  const ends = Object.entries(exits)
    .filter(([, when]) => when !== "")
    .map(([exit, when]) => [EXIT[exit as ExitName], when] as const)
    .sort(([one], [other]) => one - other)
    .map(([code, when]) => `${code} (${escaped(when)})`);
  const told = `${[...bare, ...(known.before === "" ? [] : [known.before])].join(", ")}`;
  return [
    `### ${name}`,
    escaped(teaches),
    [
      "```sh",
      ...(example !== undefined && Object.keys(verb.positionals).length === 0 ? [] : [`anybroker ${usageOf(verb)}`]),
      ...(example === undefined ? [] : [`anybroker ${example[0]}`]),
      "```",
    ].join("\n"),
    ...(own.lines.length === 0 ? [] : [own.lines.join("\n")]),
    ...(own.before === "" ? [] : [`Also ${own.before}.`]),
    [
      `\`--json\`${streams === true ? ", line by line" : ""}: ${asBefore(name, JSON.stringify(json), said) ?? told}`.trimEnd(),
      ...known.lines,
    ].join("\n"),
    ...(ends.length === 0 ? [] : [`Exit codes: ${asBefore(name, ends.join(", "), said) ?? ends.join(", ")}.`]),
  ].join("\n\n");
}

/** That it is all the same as with an earlier command; undefined if it is new. */
function asBefore(name: string, text: string, said: Said): string | undefined {
  const by = said.get(text);
  if (by === undefined) said.set(text, name);
  return by === undefined || text.length < LONG ? undefined : `as ${linkTo(by)}`;
}

/** Shorter texts are repeated rather than looked up. */
const LONG = 40;
const MANY = 4;

/** A line for each that is new, and the names of what an earlier command has said. */
function once(name: string, all: readonly (readonly [string, string, string])[], said: Said) {
  const lines: string[] = [];
  const before = new Map<string, string[]>();
  for (const [one, written, what] of all) {
    const by = said.get(`${one} ${what}`);
    if (by === undefined) {
      said.set(`${one} ${what}`, name);
      lines.push(`- ${written}: ${escaped(what)}`);
    } else before.set(by, [...(before.get(by) ?? []), written]);
  }
  return { lines, before: [...before].map(([by, words]) => `${listed(words)} as ${linkTo(by)}`).join("; ") };
}

/** Names, of many the first and the last. */
function listed(words: readonly string[]): string {
  return words.length > MANY ? `${words[0]} to ${words.at(-1)}` : words.join(", ");
}

function linkTo(name: string): string {
  return `[${name}](#${name.replaceAll(" ", "-")})`;
}

function optionOf(name: string, { type, alias, choices }: Options): string {
  const value = type === "boolean" ? "" : choices === undefined ? `=<${type ?? "text"}>` : `=${choices.join("|")}`;
  const short = alias === undefined ? "" : `, \`-${String(alias)}\``;
  return `\`--${name}${value}\`${short}`;
}

function describe({ describe: what = "", default: by, type }: Options): string {
  return by === undefined || by === false ? what : `${what}. Default \`${type === "boolean" ? "true" : String(by)}\``;
}

function escaped(text: string): string {
  return text.replaceAll("<", "&lt;");
}

/** The names of options that no command may take for itself. */
export const COMMON: readonly string[] = COMMON_OPTIONS;

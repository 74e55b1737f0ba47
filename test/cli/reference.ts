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
  return ["| Code | Name | Meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

/** Everything that the commands say of themselves. */
export function commandsReference(): string {
  return VERBS.map(sectionOf).join("\n\n");
}

function sectionOf(verb: Verb): string {
  const { name, teaches, positionals, options, examples, json, streams, exits } = verb;
  const words = Object.entries(positionals).map(
    ([word, { describe = "" }]) => `| \`<${word}>\` | ${escaped(describe)} |`,
  );
  const own = Object.entries(options).map(
    ([option, definition]) => `| ${optionOf(option, definition)} | ${escaped(describe(definition))} |`,
  );
  const ends = Object.entries(exits).map(
    ([exit, when]) => `| ${EXIT[exit as ExitName]} \`${exit}\` | ${escaped(when)} |`,
  );
  const fields = Object.entries(json).map(([field, what]) => `| \`${field}\` | ${escaped(what)} |`);
  return [
    `### ${name}`,
    teaches,
    ["```sh", `anybroker ${usageOf(verb)}`, "```"].join("\n"),
    ...(words.length + own.length === 0 ? [] : [table(["", ""], [...words, ...own])]),
    ["```sh", ...examples.map(([line, what]) => `anybroker ${line} # ${what}`), "```"].join("\n"),
    streams === true ? "`--json`: a line for each, with `verb` and" : "`--json`: one object, with `verb` and",
    table(["Field", "Holds"], fields),
    table(["Ends with", "When"], ends),
  ].join("\n\n");
}

function optionOf(name: string, { type, alias, choices }: Options): string {
  const value = type === "boolean" ? "" : choices === undefined ? ` <${type ?? "text"}>` : ` ${choices.join("\\|")}`;
  const short = alias === undefined ? "" : `, \`-${String(alias)}\``;
  return `\`--${name}${value}\`${short}`;
}

function describe({ describe: what = "", default: by, type }: Options): string {
  return by === undefined || by === false ? what : `${what}. Default \`${type === "boolean" ? "true" : String(by)}\``;
}

function table(head: readonly string[], rows: readonly string[]): string {
  return [`| ${head.join(" | ")} |`, `| ${head.map(() => "---").join(" | ")} |`, ...rows].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
}

/** The names of options that no command may take for itself. */
export const COMMON: readonly string[] = COMMON_OPTIONS;

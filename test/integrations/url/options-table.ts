import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BROKERS } from "../../../integrations/url/from-url.ts";
import type { UrlOptions } from "../../../integrations/url/index.ts";
import { type Parameter, takes, writtenNames } from "../../../integrations/url/query.ts";
import { ROOT } from "../../package/built-package.ts";

const SOURCES: Readonly<Record<keyof UrlOptions, string>> = {
  memory: "adapters/memory/index.ts",
  rabbitmq: "adapters/rabbitmq/options.ts",
  kafka: "adapters/kafka/options.ts",
  sqs: "adapters/sqs/options.ts",
};

/** As far as a timer goes: no limit that anybody meets. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const DOCUMENTED = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s+readonly (\w+)\?:/g;

/** What each option of an adapter is, from its documentation comment. */
function meanings(source: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [, comment = "", name = ""] of readFileSync(join(ROOT, source), "utf8").matchAll(DOCUMENTED)) {
    const text = comment
      .replaceAll(/^\s*\* ?/gm, "")
      .replaceAll(/\s+/g, " ")
      .trim();
    if (!found.has(name)) found.set(name, text.replaceAll("|", "\\|"));
  }
  return found;
}

/** The table of the options of one broker, and what of them has no place in the query. */
export function optionsTable(name: keyof UrlOptions): string {
  const meaning = meanings(SOURCES[name]);
  const rows: string[] = [];
  const others: string[] = [];
  for (const [option, parameter] of Object.entries(BROKERS[name].parameters)) {
    if (parameter.kind === "elsewhere") {
      others.push(`\`${option}\``);
    } else {
      const what = inShort(meaning.get(option) ?? "");
      rows.push(`| ${written(option, parameter)} | ${shortly(takes(leaf(parameter)))} | ${what} |`);
    }
  }
  return ["| Option | Takes | Meaning |", "|---|---|---|", ...rows, "", `Not in the query: ${others.join(", ")}.`].join(
    "\n",
  );
}

/** How a documentation comment begins, and its default: the pages of the brokers have the rest. */
function inShort(meaning: string): string {
  const [first = "", ...others] = meaning.split(/(?<=\.) (?=[A-Z`\d])/);
  const clause = first
    .replaceAll(/ \([^)]*\)/g, "")
    .replace(/[;:] (?!-1).*|, (?:as in|such as|handshake|all|each|which) .*|\.$/, "");
  const defaults = others
    .filter((sentence) => sentence.startsWith("Default"))
    .map((sentence) => sentence.replace(/[;(].*|\.$/, "").trim());
  return `${[clause, ...defaults].join(". ")}.`;
}

/** A range in one word. Every number is whole. */
function shortly(text: string): string {
  return text
    .replace(/^an integer from (\d+) up/, "≥$1")
    .replace(/^an integer from (\d+) to (\d+)$/, (_, least: string, most: string) =>
      Number(most) === LONGEST_TIMEOUT_MS ? `≥${least}` : `${least}–${most}`,
    )
    .replace("a text that is not empty", "text")
    .replace(/^one of /, "");
}

function written(option: string, parameter: Parameter): string {
  return writtenNames({ [option]: parameter })
    .map((name) => `\`${name}\``)
    .join(", ");
}

/** What stands behind the equals sign. */
function leaf(parameter: Parameter): Parameter {
  if (parameter.kind === "names") return parameter.each;
  if (parameter.kind === "parts") return Object.values(parameter.of)[0] ?? parameter;
  return parameter;
}

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

/** The table of the options of one broker: how each is written in a URL, what it takes, and what it is. */
export function optionsTable(name: keyof UrlOptions): string {
  const { parameters } = BROKERS[name];
  const meaning = meanings(SOURCES[name]);
  const rows = Object.entries(parameters).map(([option, parameter]) =>
    parameter.kind === "elsewhere"
      ? `| \`${option}\` | not in the query | ${asText(parameter.where)} |`
      : `| ${written(option, parameter)} | ${takes(leaf(parameter))} | ${meaning.get(option) ?? ""} |`,
  );
  return ["| option | takes | |", "| --- | --- | --- |", ...rows].join("\n");
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

/** Whatever is code in a sentence, marked as such. */
function asText(where: string): string {
  return where.replaceAll(/\S+:\/\/\S+|\{ .+ \}|\bamqps:/g, (code) => `\`${code}\``);
}

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Adapter } from "anybroker";
import { CAPABILITY_NAMES, type CapabilityName, type Support } from "anybroker/adapter";
import { kafka } from "anybroker/kafka";
import { memory } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { sqs } from "anybroker/sqs";
import { ROOT } from "../package/built-package.ts";

/** What is asked of a broker, in the words of people. Exhaustive: a new capability does not compile without its words. */
const ASKED: Readonly<Record<CapabilityName, string>> = {
  order: "order per key (`ordered`)",
  delay: "delayed messages (`delayMs`) and retries",
  priority: "priorities (`priorities`)",
  ttl: "time to live (`ttlMs`)",
  rewind: "subscriptions that start in the past (`from`), `rewind`",
  fanOut: "topics with subscriptions",
  routingFilter: "filters by routing key (`filter`)",
  lease: "leases, renewed while handlers run",
  deduplication: "the broker drops a second message of an id",
  transactions: "sending and settling in one step",
  durable: "confirmed messages survive a restart (`durable`)",
};

const SUPPORT: Readonly<Record<Support, string>> = { native: "yes", emulated: "by anybroker", unsupported: "**no**" };

/** The table of what each broker can do, made from the adapters' capabilities. */
export function capabilitiesTable(
  adapters: readonly Adapter[] = [memory(), rabbitmq(), kafka({ brokers: "localhost:9092" }), sqs()],
): string {
  const row = (...cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const sizes = (title: string, size: (adapter: Adapter) => number): string =>
    row(title, ...adapters.map((adapter) => count(size(adapter))));
  return [
    row("", ...adapters.map(({ name }) => `\`${name}\``)),
    row("---", ...adapters.map(() => "---")),
    ...CAPABILITY_NAMES.map((name) =>
      row(
        ASKED[name],
        ...adapters.map(({ capabilities }) => {
          const { support, note } = capabilities[name];
          return `${SUPPORT[support]}: ${note.replaceAll("|", "\\|")}`;
        }),
      ),
    ),
    sizes("largest body, bytes", ({ capabilities }) => capabilities.maxMessageBytes),
    sizes("most headers", ({ capabilities }) => capabilities.maxHeaders),
    sizes("most bytes of headers", ({ capabilities }) => capabilities.maxHeaderBytes),
  ].join("\n");
}

function count(value: number): string {
  return value.toLocaleString("en");
}

/** The table of error codes, made from the documentation comment of `MessagingErrorCode`. */
export function errorsTable(): string {
  const source = readFileSync(join(ROOT, "core/errors.ts"), "utf8");
  const rows = [...source.matchAll(/^ \* - `([a-z-]+)`: (.+)\.$/gm)].map(
    ([, code, text]) => `| \`${code}\` | ${text} |`,
  );
  return ["| Code | Meaning |", "| --- | --- |", ...rows].join("\n");
}

/** The error codes of the type itself. */
export function errorCodes(): string[] {
  const source = readFileSync(join(ROOT, "core/errors.ts"), "utf8");
  const [, type = ""] = /export type MessagingErrorCode =([^;]+);/.exec(source) ?? [];
  return [...type.matchAll(/"([a-z-]+)"/g)].map(([, code = ""]) => code);
}

/** The text between the marker comments of a file: `<!-- name:begin -->` … `<!-- name:end -->`. */
export function readMarked(file: string, name: string): string {
  return markedParts(readFileSync(join(ROOT, file), "utf8"), file, name).between.trim();
}

/** Puts a text between the markers. */
export function writeMarked(file: string, name: string, text: string): void {
  const path = join(ROOT, file);
  const { before, after } = markedParts(readFileSync(path, "utf8"), file, name);
  writeFileSync(path, `${before}\n${text}\n${after}`);
}

function markedParts(text: string, file: string, name: string) {
  const begin = `<!-- ${name}:begin -->`;
  const from = text.indexOf(begin) + begin.length;
  const to = text.indexOf(`<!-- ${name}:end -->`);
  if (from < begin.length || to < from) throw new Error(`${file} has no markers ${begin} and its end`);
  return { before: text.slice(0, from), between: text.slice(from, to), after: text.slice(to) };
}

import { posix } from "node:path";
import { readSource } from "./sources.ts";

const EXPORT_FROM = /^export\s+(?:type\s+)?(\*|\{[^}]*\})\s+from\s+"(\.[^"]+)";/gm;
const DECLARATION = /^export\s+(?:abstract\s+)?(?:async\s+)?(?:const|function|class|interface|type)\s+(\w+)/gm;

/** The symbols that an entry point exports without a documentation comment before them, as `file: name`. */
export function undocumented(entry: string): string[] {
  return exported(entry, undefined)
    .filter(({ file, name }) => !isDocumented(readSource(file).text, name))
    .map(({ file, name }) => `${file}: ${name}`);
}

interface Exported {
  readonly file: string;
  readonly name: string;
}

/** What a file exports, all of it or only the given names, through other files too. */
function exported(file: string, wanted: ReadonlySet<string> | undefined): Exported[] {
  const { text } = readSource(file);
  const found: Exported[] = [];
  for (const [, what = "", from = ""] of text.matchAll(EXPORT_FROM)) {
    const source = posix.join(posix.dirname(file), from);
    const names = what === "*" ? undefined : namesIn(what);
    found.push(...exported(source, names));
  }
  for (const name of new Set([...text.matchAll(DECLARATION)].map(([, name = ""]) => name))) {
    if (wanted === undefined || wanted.has(name)) found.push({ file, name });
  }
  return found;
}

function namesIn(list: string): ReadonlySet<string> {
  const names = list
    .slice(1, -1)
    .split(",")
    .map(
      (name) =>
        name
          .trim()
          .replace(/^type\s+/, "")
          .split(/\s+as\s+/)[0] ?? "",
    );
  return new Set(names.filter((name) => name !== ""));
}

/** Whether the first declaration of the name stands right below a documentation comment. */
function isDocumented(text: string, name: string): boolean {
  const lines = text.split("\n");
  const declaration = new RegExp(`^export\\s+(?:abstract\\s+)?(?:async\\s+)?\\w+\\s+${name}\\b`);
  const first = lines.findIndex((line) => declaration.test(line));
  const before = lines.slice(0, first).filter((line) => !line.startsWith("// biome-ignore"));
  return before.at(-1)?.trim().endsWith("*/") === true;
}

import { existsSync, globSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A source file: its path in the repository, and its text. */
export interface Source {
  readonly path: string;
  readonly text: string;
}

export function readSource(path: string): Source {
  return { path, text: readFileSync(join(ROOT, path), "utf8") };
}

/** The TypeScript files below these folders; a folder that does not exist has none. */
export function sourcesIn(...folders: readonly string[]): Source[] {
  return folders
    .filter((folder) => existsSync(join(ROOT, folder)))
    .flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: ROOT }))
    .sort()
    .map((path) => readSource(path.replaceAll("\\", "/")));
}

/** The text with comments and the contents of strings blanked; lines keep their numbers. */
export function codeOf(text: string): string {
  return text.replace(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g,
    (found) => (found.startsWith("/") ? "" : '""') + "\n".repeat(found.split("\n").length - 1),
  );
}

export interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
  /** The path in the repository, for a relative import. */
  readonly target: string | undefined;
}

const IMPORT =
  /^(?:import|export)\s+(type\s+)?(?:[^;"']*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;

/** Everything that a file imports or exports from elsewhere, dynamically too. */
export function importsOf({ path, text }: Source): Import[] {
  const withoutComments = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/[^\n]*/gm, "");
  return [...withoutComments.matchAll(IMPORT)].map(([, type, static_, dynamic]) => {
    const specifier = (static_ ?? dynamic) as string;
    const target = specifier.startsWith(".") ? posix.join(posix.dirname(path), specifier) : undefined;
    return { specifier, typeOnly: type !== undefined, target };
  });
}

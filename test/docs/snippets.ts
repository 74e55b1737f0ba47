import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../package/built-package.ts";

/**
 * A TypeScript block of the documentation. What follows `ts` on its first line says what is done with it:
 * - nothing: a complete program that ends by itself; it is compiled and run.
 * - `rabbitmq`: the same, run where there is a RabbitMQ; its URL takes the place of `amqp://guest:guest@localhost:5672`.
 * - `kafka`: the same, run where there is a Kafka; it takes the place of `localhost:9092`.
 * - `postgres`: the same, with a database in place of `postgres://user:password@localhost:5432/shop`.
 * - `valkey`: the same, with a server in place of `redis://localhost:6379`.
 * - `decorators`: a complete program, compiled with `experimentalDecorators` and `emitDecoratorMetadata` before it is run.
 *
 * If a `text` block follows directly, it is what the program has to print. A block that imports `../…` is a part of this
 * repository's own tests, and is compiled only; one that imports `./…` is a sketch of a program with files of the
 * reader's, and only its syntax is checked.
 */
export interface Snippet {
  readonly file: string;
  readonly line: number;
  readonly kind: "run" | Word | "compile" | "sketch";
  readonly code: string;
  readonly output: string | undefined;
}

/** What a block can ask for: a broker, or a compiler. */
const WORDS = ["rabbitmq", "kafka", "postgres", "valkey", "decorators"] as const;

type Word = (typeof WORDS)[number];

const FENCE = /^```ts(?: (\S+))?\n([\s\S]*?)^```$(?:\n+```text\n([\s\S]*?)^```$)?/gm;

export const DOCUMENTS: readonly string[] = [
  "README.md",
  ...globSync(["docs/**/*.md", "examples/**/*.md"], { cwd: ROOT }).sort(),
];

/** The snippets of a text. Throws for a word behind `ts` that means nothing. */
export function snippetsOf(file: string, text: string): Snippet[] {
  return [...text.matchAll(FENCE)].map(([, given, code = "", output]) => {
    const line = text.slice(0, text.indexOf(code)).split("\n").length;
    const word = WORDS.find((known) => known === given);
    if (given !== word) throw new Error(`${file}: "ts ${given}" is not known`);
    return { file, line, kind: kindOf(word, code), code, output };
  });
}

function kindOf(word: Word | undefined, code: string): Snippet["kind"] {
  if (/\sfrom "\.\//.test(code)) return "sketch";
  if (/\sfrom "\.\.\//.test(code)) return "compile";
  return word ?? "run";
}

/** All snippets of the documentation. */
export function allSnippets(): Snippet[] {
  return DOCUMENTS.flatMap((file) => snippetsOf(file, readFileSync(join(ROOT, file), "utf8")));
}

/** The name that a snippet's program has in the folder where it is compiled. */
export function programName({ file, line }: Snippet): string {
  return `${file.replace(/\.md$/, "").replaceAll("/", "-").toLowerCase()}-${line}.ts`;
}

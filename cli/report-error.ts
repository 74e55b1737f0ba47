import { thrownText } from "../core/foreign.ts";
import type { Output } from "./context.ts";
import { EXIT, type ExitName, exitOf, isLibraryError, type LibraryError } from "./exit-codes.ts";
import type { Secrets } from "./secrets.ts";
import { hasColours, netted, paintOf, printableJson, printableLines } from "./terminal.ts";

const MOST_CAUSES = 8;
const MOST_PROBLEMS = 20;

/** How to report errors. */
export interface ErrorReporting {
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
  readonly json: boolean;
  /** Adds stacks and causes. */
  readonly verbose: boolean;
}

/** Writes an error to stderr without secrets, and returns the command's exit. */
export function reportError(error: unknown, { stderr, env, secrets, json, verbose }: ErrorReporting): ExitName {
  const exit = exitOf(error);
  const problems = isLibraryError(error) ? error.problems : [];
  if (json) {
    const json = {
      code: isLibraryError(error) ? error.code : exit,
      message: secrets.masked(thrownText(error)),
      exit,
      exitCode: EXIT[exit],
      problems: problems.map(({ code, message }) => ({ code, message: secrets.masked(message) })),
      ...(verbose ? { stack: secrets.masked(stacksOf(error)) } : {}),
    };
    stderr.write(`${printableJson({ error: json })}\n`);
    return exit;
  }
  const colours = hasColours(stderr, env);
  const { red, dim } = paintOf(colours);
  const lines = [`${red("anybroker:")} ${printableLines(secrets.masked(textOf(error, problems)))}`];
  if (verbose) lines.push(secrets.masked(stacksOf(error)));
  else if (exit === "internal") lines.push(dim("a defect of anybroker; --verbose shows where"));
  stderr.write(`${netted(lines.join("\n"), colours)}\n`);
  return exit;
}

/** Writes stacks and causes of the first problems of a result. */
export function reportCauses(errors: readonly unknown[], { stderr, env, secrets }: ErrorReporting): void {
  for (const error of errors.slice(0, MOST_PROBLEMS)) {
    stderr.write(`${netted(secrets.masked(`problem: ${stacksOf(error)}`), hasColours(stderr, env))}\n`);
  }
}

function textOf(error: unknown, problems: readonly LibraryError[]): string {
  if (problems.length === 0) return thrownText(error);
  if (problems.length === 1) return problems.map(({ message }) => message).join("");
  // Equal problems are shown once.
  const lines = [...Map.groupBy(problems, ({ message }) => message)].map(
    ([message, { length }]) => `  - ${message}${length === 1 ? "" : ` (${length} times)`}`,
  );
  return [`${problems.length} problems:`, ...lines].join("\n");
}

/** The stacks of an error, of its causes and of its problems. */
function stacksOf(error: unknown): string {
  const problems = isLibraryError(error) ? error.problems.slice(0, MOST_PROBLEMS) : [];
  const own = causesOf(error).map(stackOf).join("\ncaused by: ");
  return [own, ...problems.map((problem) => `problem: ${stacksOf(problem)}`)].join("\n");
}

/** An error and its causes. */
function causesOf(error: unknown): readonly unknown[] {
  const causes: unknown[] = [];
  for (
    let at = error;
    at !== undefined && causes.length < MOST_CAUSES;
    at = at instanceof Error ? at.cause : undefined
  ) {
    causes.push(at);
  }
  return causes;
}

/** The stack is formatted at its first reading, which may throw. */
function stackOf(thrown: unknown): string {
  try {
    if (thrown instanceof Error && typeof thrown.stack === "string") return thrown.stack;
  } catch {
    // It has no readable stack.
  }
  return thrownText(thrown);
}

import { thrownText } from "../core/foreign.ts";
import type { Output } from "./context.ts";
import { EXIT, type ExitName, exitOf, isLibraryError, type LibraryError } from "./exit-codes.ts";
import type { Secrets } from "./secrets.ts";
import { hasColours, netted, paintOf, printableJson, printableLines } from "./terminal.ts";

const MOST_CAUSES = 8;
const MOST_PROBLEMS = 20;

/** How errors are told. */
export interface ErrorReporting {
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
  readonly json: boolean;
  /** With stacks and causes. */
  readonly verbose: boolean;
}

/** Tells an error on stderr, without secrets, and how the command ends for it. */
export function reportError(error: unknown, { stderr, env, secrets, json, verbose }: ErrorReporting): ExitName {
  const exit = exitOf(error);
  const problems = isLibraryError(error) ? error.problems : [];
  if (json) {
    const told = {
      code: isLibraryError(error) ? error.code : exit,
      message: secrets.masked(messageOf(error)),
      exit,
      exitCode: EXIT[exit],
      problems: problems.map(({ code, message }) => ({ code, message: secrets.masked(message) })),
      ...(verbose ? { stack: secrets.masked(stacksOf(error)) } : {}),
    };
    stderr.write(`${printableJson({ error: told })}\n`);
    return exit;
  }
  const colours = hasColours(stderr, env);
  const { red, dim } = paintOf(colours);
  const lines = [`${red("anybroker:")} ${printableLines(secrets.masked(textOf(error, problems)))}`];
  if (verbose) lines.push(secrets.masked(stacksOf(error)));
  else if (exit === "internal") lines.push(dim("a mistake of anybroker itself; --verbose shows where"));
  stderr.write(`${netted(lines.join("\n"), colours)}\n`);
  return exit;
}

/** Shows stacks and causes of the first of some problems that a command has told in its result. */
export function reportCauses(errors: readonly unknown[], { stderr, env, secrets }: ErrorReporting): void {
  for (const error of errors.slice(0, MOST_PROBLEMS)) {
    stderr.write(`${netted(secrets.masked(`problem: ${stacksOf(error)}`), hasColours(stderr, env))}\n`);
  }
}

function messageOf(error: unknown): string {
  return thrownText(error);
}

function textOf(error: unknown, problems: readonly LibraryError[]): string {
  if (problems.length === 0) return messageOf(error);
  if (problems.length === 1) return problems.map(({ message }) => message).join("");
  // A problem that all share is shown once.
  const lines = [...Map.groupBy(problems, ({ message }) => message)].map(
    ([message, { length }]) => `  - ${message}${length === 1 ? "" : ` (${length} times)`}`,
  );
  return [`${problems.length} problems:`, ...lines].join("\n");
}

/** The stack of an error and of what led to it, and the same of each problem in it. */
function stacksOf(error: unknown): string {
  const problems = isLibraryError(error) ? error.problems.slice(0, MOST_PROBLEMS) : [];
  const own = causesOf(error).map(stackOf).join("\ncaused by: ");
  return [own, ...problems.map((problem) => `problem: ${stacksOf(problem)}`)].join("\n");
}

/** An error, and what led to it. */
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

/** The stack is written when it is first read, from whatever the error then says. */
function stackOf(thrown: unknown): string {
  try {
    if (thrown instanceof Error && typeof thrown.stack === "string") return thrown.stack;
  } catch {
    // It has none that can be read.
  }
  return thrownText(thrown);
}

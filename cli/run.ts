import { thrownText } from "../core/foreign.ts";
import type { Configuration } from "./configuration.ts";
import { type Context, Interruption, type Output, unlessLate } from "./context.ts";
import { CommandError, called, EXIT, type ExitName, exitOf, isLibraryError, type LibraryError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { loadConfiguration } from "./load-configuration.ts";
import { type Command, parse } from "./parser.ts";
import { Secrets } from "./secrets.ts";
import { writtenAs } from "./target.ts";
import { hasColours, netted, paintOf, printableJson, printableLines, Terminal } from "./terminal.ts";
import { toldText } from "./wording.ts";

const CLOSING_MS = 10_000;

/** Runs a command line. Resolves with the exit code when everything is closed. Never rejects. */
export async function run(line: readonly string[], context: Context): Promise<number> {
  const { stderr, env } = context;
  const secrets = new Secrets(env);
  // Errors may quote any word of the line.
  for (const word of line) secrets.addWord(word);
  const interruption = new Interruption(context);
  // Until the line is parsed.
  let reporting: ErrorReporting = {
    stderr,
    env,
    secrets,
    json: line.includes("--json"),
    verbose: line.includes("--verbose"),
  };
  try {
    const parsed = await parse(line, context.stdout.columns);
    if ("text" in parsed) {
      if (parsed.text !== "") context.stdout.write(`${parsed.text}\n`);
      return EXIT.done;
    }
    const { json, verbose, config, destination } = parsed.given;
    reporting = { ...reporting, json, verbose };
    const configuration = context.configuration ?? (await loadConfiguration(config, context, interruption.signal));
    reporting = { ...reporting, destination: writtenAs(destination, configuration.destinations) };
    const { exit, errors } = await runVerb(parsed, configuration, context, secrets, interruption);
    if (reporting.verbose) reportCauses(errors, reporting);
    if (interruption.outputFailure !== undefined) throw interruption.outputFailure;
    return EXIT[exit];
  } catch (error) {
    return EXIT[reportError(error, reporting)];
  } finally {
    interruption.end();
  }
}

/** Closes the configuration. A slow close does not change the command's result. */
async function closeConfiguration({ close }: Configuration, context: Context, terminal: Terminal): Promise<void> {
  if (close === undefined) return;
  const late = new CommandError("configuration", "");
  await unlessLate(called("close()", close), context, CLOSING_MS, () => late).catch((error: unknown) => {
    if (error !== late) throw error;
    terminal.note(`close() of the configuration did not end within ${CLOSING_MS / 1_000} s`);
  });
}

async function runVerb(
  { verb, given }: Command,
  configuration: Configuration,
  context: Context,
  secrets: Secrets,
  interruption: Interruption,
): Promise<{ readonly exit: ExitName; readonly errors: readonly unknown[] }> {
  const { broker, json } = given;
  const terminal = new Terminal(context, json);
  interruption.terminal = terminal;
  const frame: Frame = { context, terminal, interruption, secrets, configuration, broker };
  try {
    const { json: result, text, exit = "done", errors = [] } = await verb.run(given as never, frame);
    if (result !== undefined) await terminal.result({ verb: verb.name, ...result }, text);
    else if (text !== "") terminal.note(text);
    return { exit, errors };
  } finally {
    await closeConfiguration(configuration, context, terminal);
  }
}

const MOST_CAUSES = 8;
const MOST_PROBLEMS = 20;

/** How to report errors. */
interface ErrorReporting {
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
  readonly json: boolean;
  /** Adds stacks and causes. */
  readonly verbose: boolean;
  /** The destination of the command, as it is written on a command line. */
  readonly destination?: string | undefined;
}

/** Writes an error to stderr without secrets, and returns the command's exit. */
function reportError(error: unknown, { stderr, env, secrets, json, verbose, destination }: ErrorReporting): ExitName {
  const exit = exitOf(error);
  const problems = isLibraryError(error) ? error.problems : [];
  if (json) {
    const json = {
      code: isLibraryError(error) ? error.code : exit,
      message: secrets.masked(toldText(error, destination)),
      exit,
      exitCode: EXIT[exit],
      problems: problems.map((problem) => ({ code: problem.code, message: secrets.masked(toldText(problem)) })),
      ...(verbose ? { stack: secrets.masked(stacksOf(error)) } : {}),
    };
    stderr.write(`${printableJson({ error: json })}\n`);
    return exit;
  }
  const colours = hasColours(stderr, env);
  const { red, dim } = paintOf(colours);
  const lines = [`${red("anybroker:")} ${printableLines(secrets.masked(textOf(error, problems, destination)))}`];
  if (verbose) lines.push(secrets.masked(stacksOf(error)));
  else if (exit === "internal") lines.push(dim("a defect of anybroker; --verbose shows where"));
  stderr.write(`${netted(lines.join("\n"), colours)}\n`);
  return exit;
}

/** Writes stacks and causes of the first problems of a result. */
function reportCauses(errors: readonly unknown[], { stderr, env, secrets }: ErrorReporting): void {
  for (const error of errors.slice(0, MOST_PROBLEMS)) {
    stderr.write(`${netted(secrets.masked(`problem: ${stacksOf(error)}`), hasColours(stderr, env))}\n`);
  }
}

function textOf(error: unknown, problems: readonly LibraryError[], destination: string | undefined): string {
  if (problems.length === 0) return toldText(error, destination);
  if (problems.length === 1) return problems.map((problem) => toldText(problem, destination)).join("");
  // Equal problems are shown once.
  const lines = [...Map.groupBy(problems, (problem) => toldText(problem))].map(
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

import type { Configuration } from "./configuration.ts";
import { type Context, Interruption, unlessLate } from "./context.ts";
import { CommandError, EXIT, type ExitName } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { loadConfiguration } from "./load-configuration.ts";
import { type Command, parse } from "./parser.ts";
import { type ErrorReporting, reportCauses, reportError } from "./report-error.ts";
import { Secrets } from "./secrets.ts";
import { Terminal } from "./terminal.ts";

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
    reporting = { ...reporting, json: parsed.given.json, verbose: parsed.given.verbose };
    const { exit, errors } = await runVerb(parsed, context, secrets, interruption);
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
  await unlessLate(Promise.resolve(close()), context, CLOSING_MS, () => late).catch((error: unknown) => {
    if (error !== late) throw error;
    terminal.note(`close() of the configuration did not end within ${CLOSING_MS / 1_000} s`);
  });
}

async function runVerb(
  { verb, given }: Command,
  context: Context,
  secrets: Secrets,
  interruption: Interruption,
): Promise<{ readonly exit: ExitName; readonly errors: readonly unknown[] }> {
  const { config, broker, json } = given;
  const configuration = context.configuration ?? (await loadConfiguration(config, context, interruption.signal));
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

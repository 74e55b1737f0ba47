import { createRequire } from "node:module";
import yargs, { type Argv, type Options } from "yargs";
import { asArguments, asWritten } from "./arguments.ts";
import { CommandError } from "./exit-codes.ts";
import { EPILOGUE, INTRODUCTION } from "./introduction.ts";
import { type Understood, understandable, usageError } from "./usage-error.ts";
import type { Verb, VerbOptions } from "./verb.ts";
import { GROUPS } from "./verbs/groups.ts";
import { VERBS } from "./verbs/index.ts";

const WIDEST = 100;
/** What the completion script of yargs asks with. */
const COMPLETION = "--get-yargs-completions";
const COMMON = {
  config: { type: "string", describe: "The configuration file; else anybroker.config.ts (.mts, .js, .mjs) here" },
  broker: { type: "string", describe: "A broker of the configuration by name, or a URL; else BROKER_URL" },
  json: { type: "boolean", default: false, describe: "The result as JSON, and errors too" },
  verbose: { type: "boolean", default: false, describe: "Errors with stacks and causes" },
} as const;

/** The options that every command has. */
export interface CommonOptions {
  readonly config: string | undefined;
  readonly broker: string | undefined;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** What the common options are called. */
export const COMMON_OPTIONS: readonly string[] = Object.keys(COMMON);

/** A command line that was understood: a command to run, or a text to print, such as a help. */
export type Parsed = Command | { readonly text: string };

/** A command, and what it is given. */
export interface Command {
  readonly verb: Verb;
  readonly given: Readonly<Record<string, unknown>> & CommonOptions;
}

/** Reads a command line. Rejects with a `CommandError` (`usage`) for one that makes no sense. */
export async function parse(line: readonly string[], columns: number | undefined): Promise<Parsed> {
  const chosen: Command[] = [];
  const understood: Understood = { line, common: [...COMMON_OPTIONS, "help"], verb: undefined, group: undefined };
  const parser = parserOf(line, columns, understood, (verb, given) => {
    const written = Object.entries(given).map(([name, value]) => [name, asWritten(value)] as const);
    chosen.push({ verb, given: Object.fromEntries(written) as Command["given"] });
  });
  if (line.includes(COMPLETION)) {
    // It answers by the console, and reads the line from the process: the shell asks, nobody else.
    await parser.parseAsync();
    return { text: "" };
  }
  const output = await new Promise<string>((resolve, reject) => {
    const parsing = parser.parseAsync(asArguments(line), {}, (error: Error | undefined, _: unknown, text: string) => {
      if (error === undefined || error === null) resolve(text);
      else reject(asUsage(error, understood));
    });
    parsing.catch(reject);
  }).catch((error: unknown) => {
    // It throws what it finds before it begins.
    throw asUsage(error, understood);
  });
  const [command] = chosen;
  if (command === undefined || output !== "") return { text: output };
  refuseOdd(command.verb, command.given);
  return command;
}

/** The help of every command, by its name. For the documentation. */
function parserOf(
  line: readonly string[],
  columns: number | undefined,
  understood: Understood,
  choose: (verb: Verb, given: object) => void,
): Argv {
  // Completing, yargs reads the line once more from here.
  const parser = yargs(line)
    .scriptName("anybroker")
    .locale("en")
    .usage(INTRODUCTION)
    .epilogue(EPILOGUE)
    .wrap(Math.min(columns ?? WIDEST, WIDEST))
    .parserConfiguration({
      "parse-numbers": false,
      "parse-positional-numbers": false,
      "dot-notation": false,
      "greedy-arrays": false,
    })
    .options(withValues(COMMON))
    .exitProcess(false)
    .strict()
    .recommendCommands()
    .completion("completion", "Print a script for the shell that completes commands (bash, zsh)")
    .help()
    .alias("help", "h")
    .version(ownVersion())
    .fail((message, error) => {
      throw error ?? understandable(String(asWritten(message)), understood);
    })
    .demandCommand(1, 1, "Say what to do: anybroker --help lists the commands");
  for (const [group, summary] of Object.entries(GROUPS)) {
    const members = VERBS.filter(({ name }) => name.startsWith(`${group} `));
    parser.command(group, summary, (under) => {
      understood.group = group;
      for (const member of members) addVerb(under, member, understood, choose);
      return under.demandCommand(1, 1, `Say what to do: anybroker ${group} --help lists the commands`);
    });
  }
  for (const one of VERBS.filter(({ name }) => !name.includes(" "))) addVerb(parser, one, understood, choose);
  return parser;
}

function addVerb(parser: Argv, one: Verb, understood: Understood, choose: (verb: Verb, given: object) => void): void {
  parser.command(
    patternOf(one),
    one.summary,
    (own) => {
      understood.verb = one;
      for (const [name, positional] of Object.entries(one.positionals)) own.positional(name, positional);
      for (const [line, what] of one.examples) own.example(`anybroker ${line}`, what);
      return own
        .options(one.options)
        .usage(`anybroker ${usageOf(one)}\n\n${one.teaches}`)
        .epilogue("");
    },
    (given) => choose(one, given),
  );
}

/** Options that take a value take one word, and are refused without. */
function withValues(options: VerbOptions): Record<string, Options> {
  return Object.fromEntries(
    Object.entries(options).map(([name, option]) => {
      const takesOne = (option.type === "string" || option.type === "number") && option.array !== true;
      return [name, takesOne ? { ...option, nargs: 1 } : option];
    }),
  );
}

/** As yargs writes commands: `replay <destination> [filter..]`. */
function patternOf(one: Verb): string {
  const [, ...words] = usageOf(one).split(" ");
  return one.name.includes(" ") ? words.join(" ") : usageOf(one);
}

/** A command with its positional arguments. */
export function usageOf({ name, positionals }: Verb): string {
  const words = Object.entries(positionals).map(([word, { demandOption, array }]) => {
    const many = array === true ? ".." : "";
    return demandOption === true ? `<${word}${many}>` : `[${word}${many}]`;
  });
  return [name, ...words].join(" ");
}

/** Of two values for one option the wrong one might be meant, and of what is no number any. */
function refuseOdd(one: Verb, given: Readonly<Record<string, unknown>>): void {
  const { options } = one;
  for (const name of [...COMMON_OPTIONS, ...Object.keys(options)]) {
    if (Array.isArray(given[name]) && options[name]?.array !== true) {
      throw usageError(`--${name} was given several times, and takes one value`, one, name);
    }
    if (Number.isNaN(given[name])) throw usageError(`--${name} takes a number`, one, name);
    if (given[name] === "") throw usageError(`--${name} was given an empty text`, one, name);
  }
}

function asUsage(error: unknown, understood: Understood): unknown {
  if (error instanceof CommandError) return error;
  // What yargs throws of its own accord is about the command line.
  return error instanceof Error && error.name === "YError"
    ? understandable(String(asWritten(error.message)), understood)
    : error;
}

/** The version of this package, wherever it is run from. yargs would take that of the current folder. */
function ownVersion(): string {
  try {
    const { version } = createRequire(import.meta.url)("anybroker/package.json") as { readonly version: string };
    return version;
  } catch {
    return "unknown";
  }
}

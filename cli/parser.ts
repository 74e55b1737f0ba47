import { createRequire } from "node:module";
import yargs, { type Argv, type Options } from "yargs";
import { nearest } from "../integrations/url/query.ts";
import { PREFIX } from "./dead-letters-of.ts";
import { CommandError, EXIT, type ExitName } from "./exit-codes.ts";
import type { Verb, VerbOptions } from "./verb.ts";
import { GROUPS, VERBS } from "./verbs/index.ts";

/** The id of a dead letter that looks like an option. No option is that long. */
const LIKE_AN_OPTION = /^-[A-Za-z0-9_-]{21}$/;
/** Marks a word as no option, even if it begins with `-`. Words of a command line cannot contain it. */
const LITERAL = "\0";

/**
 * Rewrites words that yargs would misread: the id of a dead letter that looks like an option gets the prefix `id:`, and `-`
 * for stdin is joined with its option. Words after `--` are marked, since yargs would drop those that begin with `-`.
 */
function asArguments(words: readonly string[]): string[] {
  const read: string[] = [];
  for (const [index, word] of words.entries()) {
    if (word === "--") {
      const literal = words.slice(index + 1).map((one) => (one.startsWith("-") ? `${LITERAL}${one}` : one));
      return [...read, ...literal];
    }
    const before = read.at(-1);
    if (word === "-" && before?.startsWith("--") === true) read[read.length - 1] = `${before}=-`;
    else read.push(LIKE_AN_OPTION.test(word) ? `${PREFIX}${word}` : word);
  }
  return read;
}

/** The original value of an argument; see {@link asArguments}. */
function asWritten(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asWritten);
  return typeof value === "string" ? value.replaceAll(LITERAL, "") : value;
}

/** The beginning of `anybroker --help`. */
const INTRODUCTION = `anybroker <command>

Inspects and manages queues and topics on RabbitMQ, Kafka, and SQS with SNS.

A destination is a name of the configuration (anybroker.config.ts), or queue:orders, topic:order.placed, or topic:order.placed/billing for a subscription. Without a configuration, options follow after commas: queue:orders,ordered,priorities=5,ttl=1h or topic:geo/us,filter=geo.us.#,from=earliest.

Only "topology create" creates destinations. Nothing is removed or moved without --yes or an answer.`;

/** The end of `anybroker --help`. */
const EPILOGUE = `Exit code 0: all is done; 3: some is done; others as in sysexits.h: ${briefly([
  "usage",
  "data",
  "not-found",
  "unavailable",
  "not-allowed",
  "configuration",
])}. All are in docs/cli.md. Ctrl-C stops cleanly and reports the progress.`;

function briefly(names: readonly ExitName[]): string {
  return names.map((name) => `${EXIT[name]} ${name}`).join(", ");
}

/** How far a command line was parsed before an error. */
interface Understood {
  readonly line: readonly string[];
  /** The options of every command. */
  readonly common: readonly string[];
  verb: Verb | undefined;
  group: string | undefined;
}

/** Makes a `usage` error: the problem, an example (with the option, if one has it), and where to read more. */
function usageError(problem: string, verb: Verb, option?: string): CommandError {
  const examples = verb.examples.map(([line]) => line);
  const example = examples.find((line) => line.includes(`--${option}`)) ?? examples[0] ?? verb.name;
  const help = `anybroker ${verb.name} --help`;
  return new CommandError("usage", `${problem}; as in: anybroker ${example} (see ${help})`);
}

/** Rewrites an error message of yargs. */
function understandable(message: string, understood: Understood): CommandError {
  const { verb } = understood;
  const problem =
    unknownCommand(message, understood) ?? (verb === undefined ? undefined : wrongUse(message, verb, understood));
  if (problem === undefined) return new CommandError("usage", message);
  const [, option] = /--([a-z-]+)/.exec(problem) ?? [];
  return verb === undefined ? new CommandError("usage", problem) : usageError(problem, verb, option);
}

/** yargs counts surplus words before it looks for the command. */
const NO_COMMAND = /^(?:Unknown (?:command|argument)|Too many non-option arguments)/;

function unknownCommand(message: string, { line, group, verb }: Understood): string | undefined {
  if (verb !== undefined || !NO_COMMAND.test(message)) return undefined;
  const under = group === undefined ? "" : `${group} `;
  const known = VERBS.filter(({ name }) => name.startsWith(under)).map(
    ({ name }) => name.slice(under.length).split(" ")[0] ?? "",
  );
  const begin = group === undefined ? 0 : line.indexOf(group) + 1;
  const given = line
    .slice(begin)
    .find((word, index) => !word.startsWith("-") && !known.includes(word) && !takesNext(line[begin + index - 1]));
  if (given === undefined) return undefined;
  const meant = nearest(given, [...new Set(known)]);
  const hint = meant === undefined ? "" : `did you mean "${under}${meant}"? `;
  return `there is no command "${under}${given}": ${hint}anybroker ${under}--help lists the commands`;
}

/** Whether the word after this one is the value of an option of every command. */
function takesNext(word: string | undefined): boolean {
  return Object.entries(COMMON).some(([name, { type }]) => type === "string" && word === `--${name}`);
}

function wrongUse(message: string, verb: Verb, { line, common }: Understood): string | undefined {
  const { name, positionals, options } = verb;
  const tooFew = /^Not enough non-option arguments: got (\d+)/.exec(message)?.[1];
  if (tooFew !== undefined) {
    const needed = Object.entries(positionals).filter(([, { demandOption }]) => demandOption === true);
    const missing = needed.slice(Number(tooFew)).map(([word, { describe }]) => `<${word}> (${lowered(describe)})`);
    return `"${name}" needs ${missing.join(" and ")}`;
  }
  const required = /^Missing required arguments?: (.*)$/s.exec(message)?.[1];
  if (required !== undefined) {
    const missing = required.split(", ").map((option) => `--${option} (${lowered(options[option]?.describe)})`);
    return `"${name}" needs ${missing.join(" and ")}`;
  }
  const bare = /^Not enough arguments following: (.*)$/.exec(message)?.[1];
  if (bare !== undefined) {
    const describe = options[bare]?.describe;
    return `--${bare} takes a value${describe === undefined ? "" : ` (${lowered(describe)})`}`;
  }
  const unknown = /^Unknown arguments?: (.*)$/s.exec(message)?.[1];
  if (unknown !== undefined) return unknownWords(unknown.split(", "), [...Object.keys(options), ...common], verb, line);
  const choice = /Argument: (.*), Given: (.*), Choices: (.*)$/s.exec(message);
  if (choice !== null) return `--${choice[1]} takes one of ${choice[3]}, not ${choice[2]}`;
  return undefined;
}

/** The message for unknown options and surplus words. */
function unknownWords(
  words: readonly string[],
  known: readonly string[],
  { name }: Verb,
  line: readonly string[],
): string {
  const isOption = (word: string): boolean =>
    line.some((one) => one.startsWith(`--${word}`) || (word.length === 1 && /^-[a-z]/i.test(one)));
  const wrong = words.filter(isOption).map((word) => {
    const meant = nearest(word, known);
    const dashed = word.length === 1 ? `-${word}` : `--${word}`;
    return `"${name}" has no option ${dashed}${meant === undefined ? "" : ` (did you mean --${meant}?)`}`;
  });
  // yargs names an option with dashes again, in camel case.
  const isSecond = (word: string): boolean => words.some((one) => one !== word && camelCase(one) === word);
  const surplus = words.filter((word) => !isOption(word) && !isSecond(word));
  if (surplus.length > 0)
    wrong.push(`"${name}" takes fewer words: ${surplus.join(", ")} is too much; quote words with spaces`);
  return wrong.join("; ");
}

function camelCase(word: string): string {
  return word.replace(/-+([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function lowered(describe: string | undefined): string {
  return describe === undefined ? "see its help" : `${describe.charAt(0).toLowerCase()}${describe.slice(1)}`;
}

const WIDEST = 100;
/** The argument of yargs' completion script. */
const COMPLETION = "--get-yargs-completions";
const COMMON = {
  config: { type: "string", describe: "The configuration file. Default: anybroker.config.ts (.mts, .js, .mjs) here" },
  broker: { type: "string", describe: "A broker of the configuration by name, or a URL. Default: BROKER_URL" },
  json: { type: "boolean", default: false, describe: "Results and errors as JSON" },
  verbose: { type: "boolean", default: false, describe: "Errors with stacks and causes" },
} as const;

/** The values of the options of every command. */
interface CommonOptions {
  readonly config: string | undefined;
  readonly broker: string | undefined;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** The names of the options of every command. */
export const COMMON_OPTIONS: readonly string[] = Object.keys(COMMON);

/** A parsed command line: a command to run, or a text to print, such as help. */
type Parsed = Command | { readonly text: string };

/** A command with its arguments. */
export interface Command {
  readonly verb: Verb;
  readonly given: Readonly<Record<string, unknown>> & CommonOptions;
}

/** Parses a command line. Rejects with a `CommandError` (`usage`). */
export async function parse(line: readonly string[], columns: number | undefined): Promise<Parsed> {
  const chosen: Command[] = [];
  const understood: Understood = { line, common: [...COMMON_OPTIONS, "help"], verb: undefined, group: undefined };
  const parser = parserOf(line, columns, understood, (verb, given) => {
    const written = Object.entries(given).map(([name, value]) => [name, asWritten(value)] as const);
    chosen.push({ verb, given: Object.fromEntries(written) as Command["given"] });
  });
  if (line.includes(COMPLETION)) {
    // yargs prints the completions itself, and reads the line from the process.
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
    // yargs throws some errors before it parses.
    throw asUsage(error, understood);
  });
  const [command] = chosen;
  if (command === undefined || output !== "") return { text: output };
  refuseOdd(command.verb, command.given);
  return command;
}

/** Makes the parser. `choose` gets the chosen command. */
function parserOf(
  line: readonly string[],
  columns: number | undefined,
  understood: Understood,
  choose: (verb: Verb, given: object) => void,
): Argv {
  // yargs parses the line again for completions.
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
    .completion("completion", "Print a completion script (bash, zsh)")
    .help()
    .alias("help", "h")
    .version(ownVersion())
    .fail((message, error) => {
      throw error ?? understandable(String(asWritten(message)), understood);
    })
    .demandCommand(1, 1, "a command is missing: anybroker --help lists the commands");
  for (const [group, summary] of Object.entries(GROUPS)) {
    const members = VERBS.filter(({ name }) => name.startsWith(`${group} `));
    parser.command(group, summary, (under) => {
      understood.group = group;
      for (const member of members) addVerb(under, member, understood, choose);
      return under.demandCommand(1, 1, `a command is missing: anybroker ${group} --help lists the commands`);
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

/** Lets options with a value take exactly one word. */
function withValues(options: VerbOptions): Record<string, Options> {
  return Object.fromEntries(
    Object.entries(options).map(([name, option]) => {
      const takesOne = (option.type === "string" || option.type === "number") && option.array !== true;
      return [name, takesOne ? { ...option, nargs: 1 } : option];
    }),
  );
}

/** The pattern of a command for yargs: `replay <destination> [filter..]`. */
function patternOf(one: Verb): string {
  const [, ...words] = usageOf(one).split(" ");
  return one.name.includes(" ") ? words.join(" ") : usageOf(one);
}

/** The usage of a command: its name and positional arguments. */
export function usageOf({ name, positionals }: Verb): string {
  const words = Object.entries(positionals).map(([word, { demandOption, array }]) => {
    const many = array === true ? ".." : "";
    return demandOption === true ? `<${word}${many}>` : `[${word}${many}]`;
  });
  return [name, ...words].join(" ");
}

/** Refuses repeated options, numbers that are none, and empty texts. */
function refuseOdd(one: Verb, given: Readonly<Record<string, unknown>>): void {
  const { options } = one;
  for (const name of [...COMMON_OPTIONS, ...Object.keys(options)]) {
    if (Array.isArray(given[name]) && options[name]?.array !== true) {
      throw usageError(`--${name} takes one value, and was given several times`, one, name);
    }
    if (Number.isNaN(given[name])) throw usageError(`--${name} takes a number`, one, name);
    if (given[name] === "") throw usageError(`--${name} takes a text that is not empty`, one, name);
  }
}

function asUsage(error: unknown, understood: Understood): unknown {
  if (error instanceof CommandError) return error;
  // Other errors of yargs are about the command line too.
  return error instanceof Error && error.name === "YError"
    ? understandable(String(asWritten(error.message)), understood)
    : error;
}

/** The version of this package. yargs would use the package of the current folder. */
function ownVersion(): string {
  try {
    const { version } = createRequire(import.meta.url)("anybroker/package.json") as { readonly version: string };
    return version;
  } catch {
    return "unknown";
  }
}

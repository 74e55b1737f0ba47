import { createRequire } from "node:module";
import yargs, { type Argv, type Options } from "yargs";
import { nearest } from "../integrations/url/query.ts";
import { PREFIX } from "./dead-letters-of.ts";
import { CommandError, EXIT, type ExitName } from "./exit-codes.ts";
import type { Verb, VerbOptions } from "./verb.ts";
import { GROUPS, VERBS } from "./verbs/index.ts";

/** The id of a dead letter that begins as an option does. No option is so long. */
const LIKE_AN_OPTION = /^-[A-Za-z0-9_-]{21}$/;
/** In front of a word that is no option, also if it begins as one. No word of a command line holds it. */
const LITERAL = "\0";

/**
 * The words of a command line, with what would be misread written otherwise: an id of a dead letter that looks like an
 * option, behind `id:`; and stdin, `-`, together with the option that it is for. What follows `--` is
 * marked as no option, for {@link asWritten}: yargs would drop it where it begins with `-`.
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

/** A value as it was written: see {@link asArguments}. */
function asWritten(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asWritten);
  return typeof value === "string" ? value.replaceAll(LITERAL, "") : value;
}

/** What `anybroker --help` begins with. */
const INTRODUCTION = `anybroker <command>

Looks at queues and topics of any broker, and works on them: RabbitMQ, Kafka, SQS with SNS.

A destination is a name of the configuration (anybroker.config.ts), or written as queue:orders, topic:order.placed, or topic:order.placed/billing for a subscription; with options behind commas where there is no configuration: queue:orders,ordered,priorities=5,ttl=1h or topic:geo/us,filter=geo.us.#,from=earliest.

Nothing is created but by "topology create", and nothing is removed or moved without --yes or an answer.`;

/** What it ends with. */
const EPILOGUE = `Ends with 0 if all is done, 3 if some is and some is not, and otherwise as sysexits.h has it: ${briefly(
  ["usage", "data", "not-found", "unavailable", "not-allowed", "configuration"],
)}. All are in docs/cli.md. Ctrl-C stops cleanly and says where it stands.`;

function briefly(names: readonly ExitName[]): string {
  return names.map((name) => `${EXIT[name]} ${name}`).join(", ");
}

/** How far a command line was understood before it made no sense. */
interface Understood {
  readonly line: readonly string[];
  /** The names of options that every command has. */
  readonly common: readonly string[];
  verb: Verb | undefined;
  group: string | undefined;
}

/** What a `usage` error says of a command: what is wrong, an example (with the option, if one has it), and where to read more. */
function usageError(problem: string, verb: Verb, option?: string): CommandError {
  const examples = verb.examples.map(([line]) => line);
  const example = examples.find((line) => line.includes(`--${option}`)) ?? examples[0] ?? verb.name;
  const help = `anybroker ${verb.name} --help`;
  return new CommandError("usage", `${problem}; as in: anybroker ${example} (${help} tells more)`);
}

/** What yargs says of a command line, as a person would. */
function understandable(message: string, understood: Understood): CommandError {
  const { verb } = understood;
  const problem =
    unknownCommand(message, understood) ?? (verb === undefined ? undefined : wrongUse(message, verb, understood));
  if (problem === undefined) return new CommandError("usage", message);
  const [, option] = /--([a-z-]+)/.exec(problem) ?? [];
  return verb === undefined ? new CommandError("usage", problem) : usageError(problem, verb, option);
}

function unknownCommand(message: string, { line, group, verb }: Understood): string | undefined {
  const meant = /^Did you mean (.*)\?$/.exec(message)?.[1];
  const unknown = /^Unknown (?:command|argument)s?: (.*)$/.exec(message)?.[1];
  if (verb !== undefined || (meant === undefined && unknown === undefined)) return undefined;
  const under = group === undefined ? "" : `${group} `;
  const known = VERBS.filter(({ name }) => name.startsWith(under)).map(
    ({ name }) => name.slice(under.length).split(" ")[0] ?? "",
  );
  const words = line.filter((word) => !word.startsWith("-") && word !== group);
  const given = words.find((word) => !known.includes(word)) ?? unknown ?? "";
  const hint = meant === undefined ? "" : `did you mean "${under}${meant}"? `;
  return `there is no command "${under}${given}": ${hint}anybroker ${under}--help lists the commands`;
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
  if (choice !== null) return `--${choice[1]} takes one of ${choice[3]}, and not ${choice[2]}`;
  return undefined;
}

/** Options that a command does not have, and words that are too many. */
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
  // yargs names an option with dashes a second time, in camel case.
  const isSecond = (word: string): boolean => words.some((one) => one !== word && camelCase(one) === word);
  const surplus = words.filter((word) => !isOption(word) && !isSecond(word));
  if (surplus.length > 0)
    wrong.push(`"${name}" takes fewer words: ${surplus.join(", ")} is too much; quote what holds spaces`);
  return wrong.join("; ");
}

function camelCase(word: string): string {
  return word.replace(/-+([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function lowered(describe: string | undefined): string {
  return describe === undefined ? "see its help" : `${describe.charAt(0).toLowerCase()}${describe.slice(1)}`;
}

const WIDEST = 100;
/** What the completion script of yargs asks with. */
const COMPLETION = "--get-yargs-completions";
const COMMON = {
  config: { type: "string", describe: "The configuration file. Default: anybroker.config.ts (.mts, .js, .mjs) here" },
  broker: { type: "string", describe: "A broker of the configuration by name, or a URL. Default: BROKER_URL" },
  json: { type: "boolean", default: false, describe: "Results and errors as JSON" },
  verbose: { type: "boolean", default: false, describe: "Errors with stacks and causes" },
} as const;

/** The options that every command has. */
interface CommonOptions {
  readonly config: string | undefined;
  readonly broker: string | undefined;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** What the common options are called. */
export const COMMON_OPTIONS: readonly string[] = Object.keys(COMMON);

/** A command line that was understood: a command to run, or a text to print, such as a help. */
type Parsed = Command | { readonly text: string };

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
    .completion("completion", "Print a completion script (bash, zsh)")
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

import { nearest } from "../integrations/url/query.ts";
import { CommandError } from "./exit-codes.ts";
import type { Verb } from "./verb.ts";
import { VERBS } from "./verbs/index.ts";

/** How far a command line was understood before it made no sense. */
export interface Understood {
  readonly line: readonly string[];
  /** The names of options that every command has. */
  readonly common: readonly string[];
  verb: Verb | undefined;
  group: string | undefined;
}

/** What a `usage` error says of a command: what is wrong, an example (with the option, if one has it), and where to read more. */
export function usageError(problem: string, verb: Verb, option?: string): CommandError {
  const examples = verb.examples.map(([line]) => line);
  const example = examples.find((line) => line.includes(`--${option}`)) ?? examples[0] ?? verb.name;
  const help = `anybroker ${verb.name} --help`;
  return new CommandError("usage", `${problem}; as in: anybroker ${example} (${help} tells more)`);
}

/** What yargs says of a command line, as a person would. */
export function understandable(message: string, understood: Understood): CommandError {
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

import type { InferredOptionTypes, Options, PositionalOptions } from "yargs";
import type { ExitName } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";

/** The result of a command that did not throw. */
export interface Ended {
  /** The result as {@link VerbDefinition.json} describes it. Undefined if it was printed before. */
  readonly json?: Readonly<Record<string, unknown>>;
  /** The result as text. */
  readonly text: string;
  /** The errors behind reported problems: `--verbose` shows their stacks and causes. */
  readonly errors?: readonly unknown[];
  /** Default `done`. */
  readonly exit?: ExitName;
}

/** The options of a command by name, for yargs. */
export type VerbOptions = Readonly<Record<string, Options>>;
/** The positional arguments of a command in order, by name, for yargs. */
type VerbPositionals = Readonly<Record<string, PositionalOptions>>;

/** The arguments of a command. */
type Arguments<P extends VerbPositionals, O extends VerbOptions> = Readonly<
  InferredOptionTypes<{ [Name in keyof P]: P[Name] }> & InferredOptionTypes<{ [Name in keyof O]: O[Name] }>
>;

/** A command with its help and documentation. */
interface VerbDefinition<P extends VerbPositionals, O extends VerbOptions> {
  /** The name as typed: `dlq replay`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The text of its help. */
  readonly teaches: string;
  readonly positionals: P;
  readonly options: O;
  /** Command lines without `anybroker`, with explanations. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** The fields of its JSON besides `verb`; the text is empty if the name or `docs/cli.md` says it. */
  readonly json: Readonly<Record<string, string>>;
  /** Whether its JSON has many lines, one object each. */
  readonly streams?: boolean;
  /** Its exits besides `done`, `usage`, `internal` and `interrupted`; empty if `EXIT_MEANING` says it. */
  readonly exits: Readonly<Partial<Record<ExitName, string>>>;
  run(given: Arguments<P, O>, frame: Frame): Promise<Ended>;
}

/** A command with any arguments. */
export interface Verb extends Omit<VerbDefinition<VerbPositionals, VerbOptions>, "run"> {
  run(given: never, frame: Frame): Promise<Ended>;
}

/** Infers the types of a command's arguments. */
export function verb<const P extends VerbPositionals, const O extends VerbOptions>(
  definition: VerbDefinition<P, O>,
): Verb {
  return definition;
}

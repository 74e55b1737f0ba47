import type { InferredOptionTypes, Options, PositionalOptions } from "yargs";
import type { ExitName } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";

/** How a command ended that did not throw. */
export interface Ended {
  /** The result, of the shape that {@link VerbDefinition.json} names. Undefined where it was all told on the way. */
  readonly json?: Readonly<Record<string, unknown>>;
  /** The same for people. */
  readonly text: string;
  /** What is behind the problems that it tells: `--verbose` shows their stacks and causes. */
  readonly errors?: readonly unknown[];
  /** Default `done`. */
  readonly exit?: ExitName;
}

/** The options that a command has, by name, as yargs takes them. */
export type VerbOptions = Readonly<Record<string, Options>>;
/** The positional arguments that a command has, in order, by name, as yargs takes them. */
type VerbPositionals = Readonly<Record<string, PositionalOptions>>;

/** What a command is given. */
type Arguments<P extends VerbPositionals, O extends VerbOptions> = Readonly<
  InferredOptionTypes<{ [Name in keyof P]: P[Name] }> & InferredOptionTypes<{ [Name in keyof O]: O[Name] }>
>;

/** A command: everything that its help, its documentation and its tests say of it, and what it does. */
interface VerbDefinition<P extends VerbPositionals, O extends VerbOptions> {
  /** As it is typed: `dlq replay`. */
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  /** What it does and what it does not, for its help. */
  readonly teaches: string;
  readonly positionals: P;
  readonly options: O;
  /** Command lines without `anybroker`, and what each does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** Every field of its JSON besides `verb`, and what it holds; empty if its name or `docs/cli.md` says it. */
  readonly json: Readonly<Record<string, string>>;
  /** Whether its JSON comes in many lines, one object each, as things happen. */
  readonly streams?: boolean;
  /** How it may end besides `done`, `usage`, `internal` and `interrupted`, and when; empty if `EXIT_MEANING` says it. */
  readonly exits: Readonly<Partial<Record<ExitName, string>>>;
  run(given: Arguments<P, O>, frame: Frame): Promise<Ended>;
}

/** A command, whatever its arguments are. */
export interface Verb extends Omit<VerbDefinition<VerbPositionals, VerbOptions>, "run"> {
  run(given: never, frame: Frame): Promise<Ended>;
}

/** Types the arguments of a command by its own definitions. */
export function verb<const P extends VerbPositionals, const O extends VerbOptions>(
  definition: VerbDefinition<P, O>,
): Verb {
  return definition;
}

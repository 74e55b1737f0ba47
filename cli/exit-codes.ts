import { isMessagingError, type MessagingErrorCode } from "../core/errors.ts";

/** How a command can end. 64 and up are those of sysexits.h, 130 is the shell's for Ctrl-C. */
export const EXIT = Object.freeze({
  done: 0,
  partly: 3,
  usage: 64,
  data: 65,
  "no-input": 66,
  "not-found": 67,
  unavailable: 69,
  internal: 70,
  "cannot-create": 73,
  "try-again": 75,
  "not-allowed": 77,
  configuration: 78,
  interrupted: 130,
});

/** The name of a way to end. */
export type ExitName = keyof typeof EXIT;

/** What each means, for people. */
export const EXIT_MEANING: Readonly<Record<ExitName, string>> = Object.freeze({
  done: "everything that was asked for is done",
  partly:
    "some of it is done and some is not, because messages failed or somebody stopped it; the output says what is left",
  usage: "the command line is wrong, or an answer is needed and nobody can be asked: give `--yes`",
  data: "what was given is wrong: a body, a filter, a plan; or the broker refused the message",
  "no-input": "a file that was named cannot be read",
  "not-found": "a destination, a dead letter or a row is not there",
  unavailable: "the broker or store cannot be reached, lacks what is asked of it, or a package is missing",
  internal: "a mistake of anybroker itself; please report it, with `--verbose`",
  "cannot-create": "a file, or the output, cannot be written",
  "try-again": "the broker was too slow or too busy, or somebody else holds it; nothing is wrong with the command",
  "not-allowed": "the broker refuses the login or the right, or the question was answered with no",
  configuration: "the configuration file is wrong, or the broker holds something else than is declared",
  interrupted: "stopped by Ctrl-C before anything was done",
});

/** How a command ends for an error of the library. Exhaustive: a new code does not compile without its exit. */
const OF_CODE: Readonly<Record<MessagingErrorCode, ExitName>> = Object.freeze({
  unsupported: "unavailable",
  invalid: "data",
  "too-large": "data",
  unroutable: "not-found",
  "not-found": "not-found",
  conflict: "configuration",
  unconfirmed: "try-again",
  refused: "data",
  overloaded: "try-again",
  timeout: "try-again",
  aborted: "try-again",
  closed: "try-again",
  unreachable: "unavailable",
  unauthorized: "not-allowed",
  "partly-failed": "partly",
  "start-failed": "configuration",
});

/** A mistake in what the command was given, said to people; `exit` is how the command ends. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exit: ExitName;

  constructor(exit: ExitName, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exit = exit;
  }
}

/** How a command ends that threw. Of several problems the first counts. */
export function exitOf(error: unknown): ExitName {
  if (error instanceof CommandError) return error.exit;
  if (!isLibraryError(error)) return "internal";
  const [first] = error.problems;
  return first === undefined ? OF_CODE[error.code] : exitOf(first);
}

/** What is read of an error of the library. */
export interface LibraryError extends Error {
  readonly code: MessagingErrorCode;
  readonly problems: readonly LibraryError[];
}

/** An error of the library, also of another copy of it: a configuration file may import one of its own. */
export function isLibraryError(error: unknown): error is LibraryError {
  if (isMessagingError(error)) return true;
  if (!(error instanceof Error) || error.name !== "MessagingError") return false;
  const { code, problems } = error as Partial<LibraryError>;
  return code !== undefined && Object.hasOwn(OF_CODE, code) && Array.isArray(problems);
}

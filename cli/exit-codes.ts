import { isMessagingError, type MessagingErrorCode } from "../core/errors.ts";
import { thrownText } from "../core/foreign.ts";

/** The exit codes of commands. 64 and up are those of sysexits.h, 130 is the shell's code for Ctrl-C. */
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

/** The name of an exit code. */
export type ExitName = keyof typeof EXIT;

/** What each means, for people. */
export const EXIT_MEANING: Readonly<Record<ExitName, string>> = Object.freeze({
  done: "all is done",
  partly: "some is done, and some failed or is left",
  usage: "the command line is wrong, or `--yes` is missing without a terminal",
  data: "a body, filter or plan is wrong, or the broker refused the message",
  "no-input": "a file cannot be read",
  "not-found": "a destination, dead letter, run or row does not exist",
  unavailable: "the broker or store cannot be reached or lacks a capability; a package is missing",
  internal: "a defect of anybroker: report it, with `--verbose`",
  "cannot-create": "a file or the output cannot be written",
  "try-again": "the broker was too slow or busy, or another process holds the messages",
  "not-allowed": "the broker or store refuses the login or a right, or the answer was no",
  configuration: "the configuration is wrong, two destinations contradict each other, or the broker differs from it",
  interrupted: "stopped before anything was done",
});

/** The exit of each error code. Exhaustive: a new code needs an exit to compile. */
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

/** An error in the use of a command; `exit` is the command's exit. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exit: ExitName;

  constructor(exit: ExitName, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exit = exit;
  }
}

/** Calls a function of the configuration. What it throws is a fault of the configuration, unless it is a library error. */
export async function called<Result>(what: string, call: () => Result | Promise<Result>): Promise<Result> {
  try {
    return await call();
  } catch (cause) {
    if (isLibraryError(cause) || cause instanceof CommandError) throw cause;
    const text = `${what} of the configuration failed: ${thrownText(cause)}`;
    throw new CommandError("configuration", text, { cause });
  }
}

/** The exit for an error. Of several problems, the first decides. */
export function exitOf(error: unknown): ExitName {
  if (error instanceof CommandError) return error.exit;
  if (!isLibraryError(error)) return "internal";
  const [first] = error.problems;
  return first === undefined ? OF_CODE[error.code] : exitOf(first);
}

/** The part of a library error that is read. */
export interface LibraryError extends Error {
  readonly code: MessagingErrorCode;
  readonly problems: readonly LibraryError[];
}

/** Whether it is an error of the library. A configuration file may import another copy of it. */
export function isLibraryError(error: unknown): error is LibraryError {
  if (isMessagingError(error)) return true;
  if (!(error instanceof Error) || error.name !== "MessagingError") return false;
  const { code, problems } = error as Partial<LibraryError>;
  return code !== undefined && Object.hasOwn(OF_CODE, code) && Array.isArray(problems);
}

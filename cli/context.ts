import type { Readable, Writable } from "node:stream";
import type { Clock, Timer } from "../core/clock.ts";
import type { Configuration } from "./configuration.ts";
import { CommandError, EXIT } from "./exit-codes.ts";

/** The output of a command. */
export interface Output extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** The input of a command. */
interface Input extends Readable {
  readonly isTTY?: boolean;
}

/** The environment of a command; tests pass their own. */
export interface Context {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The folder for relative paths. */
  readonly cwd: string;
  readonly clock: Clock;
  /** Calls back at each Ctrl-C or SIGTERM, until the returned function is called. */
  onInterrupt(interrupted: () => void): () => void;
  /** Ends the process. */
  exit(code: number): void;
  /** Replaces the configuration file. */
  readonly configuration?: Configuration;
}

/** Longer than a broker takes to stop: its handlers have 30 s. */
const LEAVING_MS = 60_000;
const STOPPING = "stopping; press Ctrl-C again to exit at once";

/**
 * Aborts its signal when the command is to stop: at the first Ctrl-C, or when the reader of the output is gone. A second
 * Ctrl-C ends the process at once. So does the first one after 60 s, for example if a server never answers.
 */
export class Interruption {
  readonly #controller = new AbortController();
  readonly #end: () => void;
  readonly #context: Context;
  #leaving: Timer | undefined;
  /** Shows the answer to the first Ctrl-C, and restores the terminal before the process ends. */
  terminal: { interrupted(text: string): void; leave(): void } | undefined;
  /** Why the output could not be written, except for a reader that is gone. */
  outputFailure: CommandError | undefined = undefined;

  constructor(context: Context) {
    this.#context = context;
    const stopListening = context.onInterrupt(() => {
      if (this.signal.aborted) {
        this.#leave();
        return;
      }
      if (this.terminal === undefined) context.stderr.write(`${STOPPING}\n`);
      else this.terminal.interrupted(STOPPING);
      this.#stop("stopped by Ctrl-C");
    });
    const gone = (cause: Error & { readonly code?: unknown }): void => {
      this.#stop("stopped: the reader of the output is gone");
      // A reader that leaves, as in `anybroker tail orders | head`, has enough. A full disk is an error.
      if (cause.code === "EPIPE" || cause.code === "ERR_STREAM_DESTROYED") return;
      const text = `the output cannot be written: ${String(cause.code ?? cause.message)}`;
      this.outputFailure ??= new CommandError("cannot-create", text, { cause });
    };
    const ignored = (): void => {};
    context.stdout.on("error", gone);
    context.stderr.on("error", ignored);
    this.#end = () => {
      stopListening();
      context.stdout.off("error", gone);
      context.stdout.on("error", ignored);
    };
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #leave(): void {
    this.terminal?.leave();
    this.#context.exit(EXIT.interrupted);
  }

  #stop(why: string): void {
    const { clock, stderr } = this.#context;
    this.#leaving ??= clock.schedule(() => {
      stderr.write(`it did not stop within ${LEAVING_MS / 1_000} s: exiting\n`);
      this.#leave();
    }, LEAVING_MS);
    this.#controller.abort(new CommandError("interrupted", `${why}; nothing was changed`));
  }

  /** Stops listening. */
  end(): void {
    if (this.#leaving !== undefined) this.#context.clock.cancel(this.#leaving);
    this.#end();
  }
}

/** Settles as the promise does, or rejects with the result of `late` after `ms` milliseconds. */
export function unlessLate<Result>(
  promise: Promise<Result>,
  { clock }: Pick<Context, "clock">,
  ms: number,
  late: () => unknown,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}

/** Settles as the promise does, or rejects with the signal's reason when it is aborted. */
export function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}

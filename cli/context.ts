import type { Readable, Writable } from "node:stream";
import type { Clock, Timer } from "../core/clock.ts";
import type { Configuration } from "./configuration.ts";
import { CommandError, EXIT } from "./exit-codes.ts";

/** Where a command writes to. */
export interface Output extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Where a command reads from. */
interface Input extends Readable {
  readonly isTTY?: boolean;
}

/** What a command has of the world around it; tests give their own. */
export interface Context {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where files are looked for that are not named by a full path. */
  readonly cwd: string;
  readonly clock: Clock;
  /** Calls for each Ctrl-C, or SIGTERM, until the result is called. */
  onInterrupt(interrupted: () => void): () => void;
  /** Ends the process at once. */
  exit(code: number): void;
  /** In place of the configuration file. */
  readonly configuration?: Configuration;
}

/** Longer than a broker takes to stop, which gives its handlers 30 s. */
const LEAVING_MS = 60_000;
const STOPPING = "stopping; Ctrl-C again leaves at once";

/**
 * Aborts its signal when the command is to stop: at the first Ctrl-C, and when whoever reads the output has left. The
 * second Ctrl-C ends the process at once, and so does the first where the command has no end within 60 s, as where a
 * store or a server never answers.
 */
export class Interruption {
  readonly #controller = new AbortController();
  readonly #end: () => void;
  readonly #context: Context;
  #leaving: Timer | undefined;
  /** What the first Ctrl-C is answered by, on stderr, and what has to be put right before the second ends the process. */
  terminal: { interrupted(text: string): void; leave(): void } | undefined;
  /** Why the output could not be written, other than that its reader has left. */
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
      this.#stop("stopped: nobody reads the output any more");
      // A reader that leaves, as in `anybroker tail orders | head`, has what it wanted; a disk that is full has not.
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
      stderr.write(`it did not stop within ${LEAVING_MS / 1_000} s, and is left\n`);
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

/** The result, or what `late` makes if there is none in time, whatever the promise does then. */
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

/** The result, or the signal's reason as soon as it is aborted, whatever the promise does then. */
export function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}

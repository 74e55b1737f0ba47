import { createInterface } from "node:readline";
import type { Context, Output } from "./context.ts";
import { CommandError } from "./exit-codes.ts";
import { hasColours, type Paint, paintOf } from "./paint.ts";
import { netted, printableJson } from "./printable.ts";
import { redacted, redactedJson } from "./secrets.ts";

/** Something that is drawn on a line of a terminal. */
export interface Drawing {
  /** What takes it off, until it is drawn the next time. */
  readonly erase: string;
  /** Draws it for the last time, and gives the terminal back as it was. */
  stop(): void;
}

/**
 * How a command talks: results to stdout, as text or as JSON; everything else to stderr. Nothing leaves it with a login in a
 * URL, but for what messages hold, in JSON.
 */
export class Terminal {
  /** Whether results are JSON. */
  readonly json: boolean;
  /** For what goes to stdout. */
  readonly paint: Paint;
  /** What is drawn on stderr, and drawn again and again. */
  drawing: Drawing | undefined;
  readonly #context: Pick<Context, "stdin" | "stdout" | "stderr">;
  readonly #colours: { readonly out: boolean; readonly notes: boolean };

  constructor(context: Pick<Context, "stdin" | "stdout" | "stderr" | "env">, json: boolean) {
    const { stdout, stderr, env } = context;
    this.#context = context;
    this.json = json;
    this.#colours = { out: hasColours(stdout, env) && !json, notes: hasColours(stderr, env) };
    this.paint = paintOf(this.#colours.out, stdout.isTTY === true ? stdout.columns : undefined);
  }

  /** Whether results go to a terminal, which can be drawn over. */
  get isLive(): boolean {
    return this.#context.stdout.isTTY === true && !this.json;
  }

  /** Where progress is drawn; undefined where it is not to be. */
  get progressStream(): Output | undefined {
    return this.#context.stderr.isTTY === true ? this.#context.stderr : undefined;
  }

  /** For what goes to stderr. */
  get notePaint(): Paint {
    return paintOf(this.#colours.notes);
  }

  /** A result on a line, or several, of text; or as JSON on one line. Resolves when there is room for more. */
  async result(json: object, text: string): Promise<void> {
    if (this.json) await written(this.#context.stdout, `${printableJson(redactedJson(json))}\n`);
    else if (text !== "") await written(this.#context.stdout, `${shown(text, this.#colours.out)}\n`);
  }

  /** Draws over what was drawn, on a live terminal: the cursor goes home, and what is left below is cleared. */
  async screen(text: string): Promise<void> {
    const lines = shown(text, this.#colours.out).split("\n");
    const drawn = lines.map((line) => `${line}\u001b[K`).join("\n");
    await written(this.#context.stdout, `\u001b[H${drawn}\n\u001b[J`);
  }

  /** Clears the screen of a live terminal. */
  async clear(): Promise<void> {
    await written(this.#context.stdout, "\u001b[2J\u001b[H");
  }

  /** Something beside the result, to stderr: in place of what is drawn there, which is drawn again below. */
  note(text: string): void {
    void written(this.#context.stderr, `${this.drawing?.erase ?? ""}${shown(text, this.#colours.notes)}\n`);
  }

  /** As {@link note}, at a Ctrl-C: the terminal has written ^C itself, wherever the cursor was. */
  interrupted(text: string): void {
    const start = this.drawing?.erase ?? "\n";
    void written(this.#context.stderr, `${start}${shown(text, this.#colours.notes)}\n`);
  }

  /** Gives the terminal back as it was found: its cursor, and the wrapping of lines. */
  leave(): void {
    this.drawing?.stop();
  }

  /**
   * Resolves if the answer is yes. Rejects with a `CommandError` if it is no, or if nobody can be asked; and with the
   * signal's reason when it is aborted.
   */
  async agreed(question: string, yes: boolean, signal: AbortSignal): Promise<void> {
    if (yes) return;
    const { stdin, stderr } = this.#context;
    if (stdin.isTTY !== true || stderr.isTTY !== true) {
      throw new CommandError(
        "usage",
        `${question} This needs an answer, and there is no terminal to ask at: give --yes`,
      );
    }
    const answer = await this.#answer(`${shown(question, this.#colours.notes)} [y/N] `, signal);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CommandError("not-allowed", "nothing was done: the answer was no");
  }

  #answer(question: string, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const { stdin, stderr } = this.#context;
    // Not as a terminal: Ctrl-C stays a signal, as everywhere else.
    const lines = createInterface({ input: stdin, output: stderr, terminal: false });
    return new Promise<string>((resolve, reject) => {
      const aborted = (): void => {
        stderr.write("\n");
        reject(signal.reason);
      };
      signal.addEventListener("abort", aborted, { once: true });
      lines.once("close", () => resolve(""));
      lines.question(question, resolve);
    }).finally(() => lines.close());
  }
}

function shown(text: string, colours: boolean): string {
  return netted(redacted(text), colours);
}

/** Writes, and waits for room. A reader that has left is no error here: see `Interruption`. */
async function written(stream: Output, text: string): Promise<void> {
  if (stream.destroyed || stream.writableEnded || stream.write(text)) return;
  await new Promise<void>((resolve) => {
    const over = (): void => {
      for (const event of EVENTS) stream.off(event, over);
      resolve();
    };
    for (const event of EVENTS) stream.on(event, over);
  });
}

const EVENTS = ["drain", "close", "error"] as const;

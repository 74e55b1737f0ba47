import { createInterface } from "node:readline";
import { styleText } from "node:util";
import { SingleBar } from "cli-progress";
import type { Context, Output } from "./context.ts";
import { CommandError } from "./exit-codes.ts";
import { redacted, redactedJson } from "./secrets.ts";

/** Characters that terminals may interpret: controls, marks of direction, line separators. */
const CONTROLS = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
/** The same, except line ends. */
const CONTROLS_IN_LINES = /(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/gu;
/** The colours that `paintOf` writes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals read colours as control characters
const COLOUR = /(\u001b\[\d{1,2}m)/;

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code > 0xffff) return `\\u{${hexadecimal(code, 5)}}`;
  return SHORT[character] ?? (code < 0x100 ? `\\x${hexadecimal(code, 2)}` : `\\u${hexadecimal(code, 4)}`);
}

function hexadecimal(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}

/** Makes a text from outside safe to print on one line: control characters become escapes. */
export function printable(text: string): string {
  return text.toWellFormed().replace(CONTROLS, escaped);
}

/** As {@link printable}, but keeps line ends. */
export function printableLines(text: string): string {
  return text.toWellFormed().replace(CONTROLS_IN_LINES, escaped);
}

/** Formats JSON on one line, safe to print. `JSON.parse` returns the same value. */
export function printableJson(value: object): string {
  return JSON.stringify(value).replace(CONTROLS, (character) =>
    Array.from({ length: character.length }, (_, at) => `\\u${hexadecimal(character.charCodeAt(at), 4)}`).join(""),
  );
}

/** The last check before a terminal: passes our own colours, if there are colours, and line ends; escapes other controls. */
export function netted(text: string, colours: boolean): string {
  if (!colours) return printableLines(text);
  return text
    .split(COLOUR)
    .map((part, index) => (index % 2 === 1 ? part : printableLines(part)))
    .join("");
}

/** The first `most` characters of a text, on one line. */
export function preview(text: string, most: number): string {
  const line = printable(text.slice(0, most + 1));
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

type Paints = (text: string) => string;

/** Colours, if there are any. Each makes the text printable first, so that texts from outside cannot add colours. */
export interface Paint {
  readonly bold: Paints;
  readonly dim: Paints;
  readonly red: Paints;
  readonly green: Paints;
  readonly yellow: Paints;
  /** The width of a line; undefined without a limit. */
  readonly width: number | undefined;
}

/** The stream that decides about colours. */
interface PaintedStream {
  readonly isTTY?: boolean;
}

/** Whether a stream gets colours: a terminal does, unless TERM or NO_COLOR (https://no-color.org) disables them. */
export function hasColours({ isTTY }: PaintedStream, env: Readonly<Record<string, string | undefined>>): boolean {
  return isTTY === true && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
}

/** The paint of a stream, with its width. */
export function paintOf(colours: boolean, width?: number): Paint {
  const paint = (style: "bold" | "dim" | "red" | "green" | "yellow"): Paints => {
    if (!colours) return printable;
    return (text) => styleText(style, printable(text), { validateStream: false });
  };
  return {
    bold: paint("bold"),
    dim: paint("dim"),
    red: paint("red"),
    green: paint("green"),
    yellow: paint("yellow"),
    width,
  };
}

/** Something drawn on a line of a terminal. */
interface Drawing {
  /** The sequence that erases it until it is drawn again. */
  readonly erase: string;
  /** Draws it a last time, and restores the terminal. */
  stop(): void;
}

/**
 * The output of a command: results as text or JSON to stdout, everything else to stderr. Masks logins in URLs, except in
 * bodies and headers of messages in JSON.
 */
export class Terminal {
  /** Whether results are JSON. */
  readonly json: boolean;
  /** The paint of stdout. */
  readonly paint: Paint;
  /** What is drawn repeatedly on stderr. */
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

  /** Whether results go to a terminal that can be redrawn. */
  get isLive(): boolean {
    return this.#context.stdout.isTTY === true && !this.json;
  }

  /** The stream for progress; undefined if progress is not drawn. */
  get progressStream(): Output | undefined {
    return this.#context.stderr.isTTY === true ? this.#context.stderr : undefined;
  }

  /** The paint of stderr. */
  get notePaint(): Paint {
    return paintOf(this.#colours.notes);
  }

  /** Writes a result as text, or as JSON on one line. Resolves when there is room for more. */
  async result(json: object, text: string): Promise<void> {
    if (this.json) await written(this.#context.stdout, `${printableJson(redactedJson(json))}\n`);
    else if (text !== "") await written(this.#context.stdout, `${shown(text, this.#colours.out)}\n`);
  }

  /** Redraws a live terminal from its top, and clears the rest. */
  async screen(text: string): Promise<void> {
    const lines = shown(text, this.#colours.out).split("\n");
    const drawn = lines.map((line) => `${line}\u001b[K`).join("\n");
    await written(this.#context.stdout, `\u001b[H${drawn}\n\u001b[J`);
  }

  /** Clears the screen of a live terminal. */
  async clear(): Promise<void> {
    await written(this.#context.stdout, "\u001b[2J\u001b[H");
  }

  /** Writes a note to stderr, above a drawing there. */
  note(text: string): void {
    void written(this.#context.stderr, `${this.drawing?.erase ?? ""}${shown(text, this.#colours.notes)}\n`);
  }

  /** As {@link note}, at a Ctrl-C: the terminal has printed ^C itself. */
  interrupted(text: string): void {
    const start = this.drawing?.erase ?? "\n";
    void written(this.#context.stderr, `${start}${shown(text, this.#colours.notes)}\n`);
  }

  /** Restores the terminal: its cursor and the wrapping of lines. */
  leave(): void {
    this.drawing?.stop();
  }

  /**
   * Asks the question, and resolves if the answer is yes. Rejects with a `CommandError` if it is no, or if there is no
   * terminal; rejects with the signal's reason when it is aborted.
   */
  async agreed(question: string, yes: boolean, signal: AbortSignal): Promise<void> {
    if (yes) return;
    const { stdin, stderr } = this.#context;
    if (stdin.isTTY !== true || stderr.isTTY !== true) {
      throw new CommandError("usage", `${question} This needs an answer, and there is no terminal: use --yes`);
    }
    const answer = await this.#answer(`${shown(question, this.#colours.notes)} [y/N] `, signal);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CommandError("not-allowed", "nothing was done: the answer was no");
  }

  #answer(question: string, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const { stdin, stderr } = this.#context;
    // Not as a terminal, so that Ctrl-C stays a signal.
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

/** Writes, and waits for room. A reader that is gone is no error here: see `Interruption`. */
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

/** Shows progress. */
export interface ProgressBar {
  update(done: number, detail?: string): void;
  /** Keeps what was drawn. A second call does nothing. */
  stop(): void;
}

const CLEAR_LINE = "\r\u001b[K";
const SAVE_CURSOR = "\u001b7";
const RESTORE_CURSOR = "\u001b8";
/** The width of ^C, which a terminal echoes, with the cursor. */
const ECHO_COLUMNS = 3;
const DEFAULT_COLUMNS = 80;
const SILENT: ProgressBar = { update: () => {}, stop: () => {} };

/** A progress bar on stderr if that is a terminal, otherwise none. `total` is undefined if unknown. */
export function progressBar(terminal: Terminal, title: string, total: number | undefined): ProgressBar {
  const stream = terminal.progressStream;
  if (stream === undefined) return SILENT;
  const known = total !== undefined;
  const format = known ? `${title} [{bar}] {value}/{total} {detail}` : `${title} {value} {detail}`;
  const bar = new SingleBar({
    stream: lineOf(stream),
    format,
    forceRedraw: true,
    linewrap: true,
    hideCursor: true,
    barsize: 30,
    gracefulExit: false,
    fps: 10,
  });
  bar.start(total ?? 1, 0, { detail: "" });
  const stop = (): void => {
    if (bar.isActive) bar.stop();
    terminal.drawing = undefined;
  };
  terminal.drawing = { erase: CLEAR_LINE, stop };
  return { update: (done, detail = "") => bar.update(done, { detail: printable(detail) }), stop };
}

/**
 * The stream for the bar, without saving and restoring the cursor: a note moves the bar to the next line, and may scroll the
 * screen. It is narrower by the echo of Ctrl-C.
 */
function lineOf(stream: Output): NodeJS.WritableStream {
  const write = (text: string, ...rest: []): boolean =>
    text === SAVE_CURSOR || text === RESTORE_CURSOR || stream.write(text, ...rest);
  return Object.create(stream, {
    write: { value: write },
    columns: { get: () => Math.max((stream.columns ?? DEFAULT_COLUMNS) - ECHO_COLUMNS, 1) },
  });
}

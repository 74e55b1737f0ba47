import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { openToAppend } from "../../core/private-files.ts";
import { stringifyEntry } from "./entry.ts";

const NEWLINE = 0x0a;

/** A file of JSON lines that is only added to. */
export interface JsonLines {
  /** Resolves when the lines are on the disk. Rejects with `refused`. */
  append(lines: readonly object[]): Promise<void>;
  /** What stands there, line by line; what is no JSON is passed over. Rejects with `refused`. */
  read(): AsyncGenerator<unknown, void, undefined>;
  /** Closes the file; it is opened again by the next call. A second call does nothing. */
  close(): Promise<void>;
}

/** `problem` is what a rejection says. The file is made by the first `append`, or `read`. */
export function jsonLines(path: string, problem: string): JsonLines {
  return new Lines(path, problem);
}

interface OpenFile {
  readonly handle: FileHandle;
  /** Whether the file ends in the middle of a line. */
  torn: boolean;
}

class Lines implements JsonLines {
  readonly #path: string;
  readonly #problem: string;
  #file: Promise<OpenFile> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string, problem: string) {
    this.#path = path;
    this.#problem = problem;
  }

  append(lines: readonly object[]): Promise<void> {
    const appended = this.#last.then(() => this.#append(lines));
    this.#last = appended.catch(() => {});
    return appended;
  }

  async #append(lines: readonly object[]): Promise<void> {
    try {
      const file = await this.#open();
      const text = lines.map((line) => `${stringifyEntry(line)}\n`).join("");
      if (text !== "") {
        const whole = file.torn ? `\n${text}` : text;
        // Until it is known how much of it was written.
        file.torn = true;
        await file.handle.appendFile(whole);
        file.torn = false;
      }
      // What stood there already may have been written by a process that died before its fsync.
      await file.handle.sync();
    } catch (cause) {
      throw this.#refused(cause);
    }
  }

  async *read(): AsyncGenerator<unknown, void, undefined> {
    try {
      const { handle } = await this.#open();
      const input = handle.createReadStream({ start: 0, autoClose: false });
      for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
        const value = parsedLine(line);
        if (value !== undefined) yield value;
      }
    } catch (cause) {
      throw this.#refused(cause);
    }
  }

  #refused(cause: unknown): MessagingError {
    return new MessagingError("refused", `${this.#problem} (${reasonOf(cause)})`, { cause });
  }

  #open(): Promise<OpenFile> {
    if (this.#file === undefined) {
      this.#file = openFile(this.#path);
      this.#file.catch(() => {
        this.#file = undefined;
      });
    }
    return this.#file;
  }

  async close(): Promise<void> {
    await this.#last;
    const file = this.#file;
    this.#file = undefined;
    await (await file)?.handle.close();
  }
}

async function openFile(path: string): Promise<OpenFile> {
  const handle = await openToAppend(path);
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    else await syncFolder(dirname(path));
    return { handle, torn: size > 0 && last[0] !== NEWLINE };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** So that a file that was just made is found again after a power cut. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function parsedLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    // Half a line, left by a crash.
    return undefined;
  }
}

function reasonOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { readonly code?: unknown };
  if (code === "ENOENT") return "ENOENT: make its folder first";
  return typeof code === "string" ? code : thrownText(cause);
}

import { constants, createReadStream, openSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { dirname, resolve } from "node:path";
import { addAbortSignal, Readable } from "node:stream";
import { inexactNumbers } from "../core/codec.ts";
import { replaceFile } from "../core/private-files.ts";
import type { Context } from "./context.ts";
import { CommandError } from "./exit-codes.ts";

const { O_CREAT, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

type Place = Pick<Context, "cwd" | "stdin">;

/** The most that is read into memory at once: no broker takes a body of that size. */
const MOST_BYTES = 256 * 1024 * 1024;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** The bytes of a file, or of what comes on stdin for `-`, until the signal is aborted. Rejects with a `CommandError`. */
export async function readBytes(file: string, { cwd, stdin }: Place, signal: AbortSignal): Promise<Uint8Array> {
  try {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of await opened(file, cwd, stdin, signal)) {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) throw tooLong("");
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (cause) {
    signal.throwIfAborted();
    throw unreadable(file, cause);
  }
}

/** The lines of a file, or of stdin for `-`, as they come, until the signal is aborted. Rejects with a `CommandError`. */
export async function* readLines(
  file: string,
  { cwd, stdin }: Place,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const line = (): string => {
    const whole = Buffer.concat(parts);
    parts = [];
    bytes = 0;
    return whole.toString("utf8", 0, whole.at(-1) === RETURN ? whole.length - 1 : whole.length);
  };
  try {
    for await (const chunk of await opened(file, cwd, stdin, signal)) {
      let begin = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, begin)) {
        parts.push(chunk.subarray(begin, end));
        yield line();
        begin = end + 1;
      }
      parts.push(chunk.subarray(begin));
      bytes += chunk.length - begin;
      if (bytes > MOST_BYTES) throw tooLong("a line of ");
    }
    if (bytes > 0) yield line();
  } catch (cause) {
    // Nothing more is wanted.
    if (signal.aborted) return;
    throw unreadable(file, cause);
  }
}

/** A pipe is opened without waiting for whoever writes to it: such a wait could not be ended, not even by a second Ctrl-C. */
async function opened(
  file: string,
  cwd: string,
  stdin: Place["stdin"],
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> {
  if (file === "-") return bytesOf(addAbortSignal(signal, Readable.from(stdin)));
  const path = resolve(cwd, file);
  if (!(await stat(path)).isFIFO()) return createReadStream(path, { signal });
  const pipe = new Socket({ fd: openSync(path, O_RDONLY | O_NONBLOCK), readable: true });
  return addAbortSignal(signal, pipe);
}

async function* bytesOf(chunks: AsyncIterable<string | Uint8Array>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield Buffer.from(chunk as Uint8Array);
}

function tooLong(what: string): Error {
  return new Error(`${what}it holds more than ${MOST_BYTES / 1024 / 1024} MiB`);
}

/** JSON of a file. Rejects with a `CommandError`, which holds nothing of the file. */
export async function readJson(file: string, place: Place, signal: AbortSignal): Promise<unknown> {
  const bytes = await readBytes(file, place, signal);
  const text = Buffer.from(bytes).toString("utf8");
  return jsonOf(text, file, "see what wrote it", "give --script, and a codec that keeps it");
}

/** Writes JSON to a file that only its owner reads, in place of what is there; a link is refused. Rejects with a `CommandError`. */
export async function writeJson(file: string, { cwd }: Pick<Context, "cwd">, value: unknown): Promise<void> {
  try {
    await replaceFile(resolve(cwd, file), `${JSON.stringify(value)}\n`);
  } catch (cause) {
    throw unwritable(file, cause);
  }
}

/** Writes a file for everybody to read; what is no regular file is refused. Rejects with a `CommandError`. */
export async function writeText(file: string, { cwd }: Pick<Context, "cwd">, text: string): Promise<void> {
  try {
    // Opening a pipe waits for its reader, and such a wait could not be ended, not even by a second Ctrl-C.
    const opened = await open(resolve(cwd, file), O_WRONLY | O_CREAT | O_NONBLOCK);
    try {
      if (!(await opened.stat()).isFile()) throw new Error(NO_FILE);
      await opened.truncate();
      await opened.writeFile(text);
      await opened.sync();
    } finally {
      await opened.close();
    }
  } catch (cause) {
    throw unwritable(file, reason(cause) === "ENXIO" ? new Error(NO_FILE, { cause }) : cause);
  }
}

const NO_FILE = "it is no regular file; name one, or have it printed";

/** Rejects with a `CommandError` if the folder that a file is to be written into is not there. */
export async function needFolder(file: string, { cwd }: Pick<Context, "cwd">): Promise<void> {
  const folder = dirname(resolve(cwd, file));
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    (cause: unknown) => {
      throw unwritable(file, cause, `make the folder ${folder} first, or name another`);
    },
  );
  if (!isFolder)
    throw new CommandError("cannot-create", `${file} cannot be written: ${folder} is no folder; name a file in one`);
}

function unwritable(file: string, cause: unknown, next?: string): CommandError {
  const advice = next ?? (reason(cause) === "ENOENT" ? "make its folder first" : undefined);
  const text = `${file} cannot be written: ${reason(cause)}${advice === undefined ? "" : `; ${advice}`}`;
  return new CommandError("cannot-create", text, { cause });
}

function unreadable(file: string, cause: unknown): CommandError {
  const why = reason(cause);
  const next = NEXT[why];
  return new CommandError("no-input", `${file} cannot be read: ${why}${next === undefined ? "" : `; ${next}`}`, {
    cause,
  });
}

const NEXT: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file: check its name, and the folder that it is looked for in",
  EACCES: "give this user the right to read it",
  EISDIR: "it is a folder: name a file in it",
};

function reason(cause: unknown): string {
  const { code, message = cause } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  return String(code ?? message);
}

/**
 * The value of a JSON text. Throws a `CommandError` that holds nothing of it, with what to do about a text that is no
 * JSON, and about a number in it that JavaScript would change.
 */
export function jsonOf(text: string, where: string, otherwise: string, withNumbers: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CommandError("data", `${where} is no JSON: ${otherwise}`);
  }
  if (inexactNumbers(text).length === 0) return value;
  throw new CommandError(
    "data",
    `${where} holds a number that JavaScript would change, such as an integer beyond 2^53: ${withNumbers}`,
  );
}

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

/** The most bytes that are read into memory: no broker takes a larger body. */
const MOST_BYTES = 256 * 1024 * 1024;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** Reads a file, or stdin for `-`, until the signal is aborted. Rejects with a `CommandError`. */
export async function readBytes(file: string, { cwd, stdin }: Place, signal: AbortSignal): Promise<Uint8Array> {
  try {
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of await opened(file, cwd, stdin, signal)) {
      bytes += chunk.length;
      if (bytes > MOST_BYTES) throw tooLong("it");
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (cause) {
    signal.throwIfAborted();
    throw unreadable(file, cause);
  }
}

/** Yields the lines of a file, or of stdin for `-`, until the signal is aborted. Rejects with a `CommandError`. */
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
      if (bytes > MOST_BYTES) throw tooLong("a line of it");
    }
    if (bytes > 0) yield line();
  } catch (cause) {
    // The caller wants no more lines.
    if (signal.aborted) return;
    throw unreadable(file, cause);
  }
}

/** Opens a pipe without waiting for its writer: such a wait could not be ended, not even by a second Ctrl-C. */
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
  return new Error(`${what} has more than ${MOST_BYTES / 1024 / 1024} MiB`);
}

/** Parses the JSON of a file. Rejects with a `CommandError` that quotes nothing of it. */
export async function readJson(file: string, place: Place, signal: AbortSignal): Promise<unknown> {
  const bytes = await readBytes(file, place, signal);
  const text = Buffer.from(bytes).toString("utf8");
  return jsonOf(text, file, "check what wrote it", "use --script, and a codec that keeps it");
}

/** Writes JSON to a file that only its owner can read, and replaces it; refuses a link. Rejects with a `CommandError`. */
export async function writeJson(file: string, { cwd }: Pick<Context, "cwd">, value: unknown): Promise<void> {
  try {
    await replaceFile(resolve(cwd, file), `${JSON.stringify(value)}\n`);
  } catch (cause) {
    throw unwritable(file, cause);
  }
}

/** Writes a file that everyone can read; refuses anything but a regular file. Rejects with a `CommandError`. */
export async function writeText(file: string, { cwd }: Pick<Context, "cwd">, text: string): Promise<void> {
  try {
    // Opening a pipe would wait for its reader, and not even a second Ctrl-C could end that wait.
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

const NO_FILE = "it is no regular file; name another file, or print the output";

/** Rejects with a `CommandError` if the folder of a file does not exist, or if something else than a file has its name. */
export async function needPlace(file: string, { cwd }: Pick<Context, "cwd">): Promise<void> {
  const folder = dirname(resolve(cwd, file));
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    (cause: unknown) => {
      throw unwritable(file, cause, `create the folder ${folder} first, or name another`);
    },
  );
  if (!isFolder)
    throw new CommandError(
      "cannot-create",
      `${file} cannot be written: ${folder} is no folder; name a file in a folder`,
    );
  const found = await stat(resolve(cwd, file)).catch(() => undefined);
  if (found === undefined || found.isFile()) return;
  const what = found.isDirectory() ? "it is a folder; name a file in it" : NO_FILE;
  throw new CommandError("cannot-create", `${file} cannot be written: ${what}`);
}

function unwritable(file: string, cause: unknown, next?: string): CommandError {
  const advice = next ?? (reason(cause) === "ENOENT" ? "its folder does not exist, or takes no files" : undefined);
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
  ENOENT: "there is no such file: check its name and its folder",
  EACCES: "give this user the right to read it",
  EISDIR: "it is a folder: name a file in it",
};

function reason(cause: unknown): string {
  const { code, message = cause } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  return String(code ?? message);
}

/**
 * Parses JSON. Throws a `CommandError` that quotes nothing of it. `otherwise` is the advice for a text that is no JSON,
 * `withNumbers` for a number that JavaScript would change.
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
    `${where} has a number that JavaScript would change, such as an integer beyond 2^53: ${withNumbers}`,
  );
}

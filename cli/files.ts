import { createReadStream } from "node:fs";
import { readFile, stat, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { createInterface } from "node:readline";
import { replaceFile } from "../core/private-files.ts";
import type { Context } from "./context.ts";
import { CommandError } from "./exit-codes.ts";

type Place = Pick<Context, "cwd" | "stdin">;

/** The bytes of a file, or of what comes on stdin for `-`. Rejects with a `CommandError`. */
export async function readBytes(file: string, { cwd, stdin }: Place): Promise<Uint8Array> {
  try {
    if (file !== "-") return await readFile(resolve(cwd, file));
    const chunks: Uint8Array[] = [];
    for await (const chunk of stdin)
      chunks.push(typeof chunk === "string" ? Buffer.from(chunk) : (chunk as Uint8Array));
    return Buffer.concat(chunks);
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

/** The lines of a file, or of stdin for `-`, as they come, until the signal is aborted. Rejects with a `CommandError`. */
export async function* readLines(
  file: string,
  { cwd, stdin }: Place,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  const input = file === "-" ? stdin : createReadStream(resolve(cwd, file));
  try {
    // Without crlfDelay a \r\n that two chunks part would be two ends.
    yield* createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY, signal });
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

/** JSON of a file. Rejects with a `CommandError`, which holds nothing of the file. */
export async function readJson(file: string, place: Place): Promise<unknown> {
  const bytes = await readBytes(file, place);
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw new CommandError("data", `${file} holds no JSON`);
  }
}

/** Writes JSON to a file that only its owner reads, in place of what is there; a link is refused. Rejects with a `CommandError`. */
export async function writeJson(file: string, { cwd }: Pick<Context, "cwd">, value: unknown): Promise<void> {
  try {
    await replaceFile(resolve(cwd, file), `${JSON.stringify(value)}\n`);
  } catch (cause) {
    throw unwritable(file, cause);
  }
}

/** Writes a file for everybody to read. Rejects with a `CommandError`. */
export async function writeText(file: string, { cwd }: Pick<Context, "cwd">, text: string): Promise<void> {
  try {
    await writeFile(resolve(cwd, file), text, { flush: true });
  } catch (cause) {
    throw unwritable(file, cause);
  }
}

/** Rejects with a `CommandError` if the folder that a file is to be written into is not there. */
export async function needFolder(file: string, { cwd }: Pick<Context, "cwd">): Promise<void> {
  const folder = dirname(resolve(cwd, file));
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    (cause: unknown) => {
      throw unwritable(file, cause, `make the folder ${folder} first, or name another`);
    },
  );
  if (!isFolder) throw new CommandError("cannot-create", `${file} cannot be written: ${folder} is no folder`);
}

function unwritable(file: string, cause: unknown, next?: string): CommandError {
  const advice = next ?? (reason(cause) === "ENOENT" ? "make its folder first" : undefined);
  const text = `${file} cannot be written: ${reason(cause)}${advice === undefined ? "" : `; ${advice}`}`;
  return new CommandError("cannot-create", text, { cause });
}

function unreadable(file: string, cause: unknown): CommandError {
  return new CommandError("no-input", `${file} cannot be read: ${reason(cause)}`, { cause });
}

function reason(cause: unknown): string {
  const { code, message = cause } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown };
  return String(code ?? message);
}

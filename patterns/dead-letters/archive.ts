import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { openToAppend } from "../../core/private-files.ts";
import { type DeadLetterEntry, stringifyEntry } from "./entry.ts";

/** A dead letter that was discarded, with everything that makes the message again. Plain JSON. */
export interface ArchivedEntry extends DeadLetterEntry {
  /** ISO time. */
  readonly archivedAt: string;
  readonly run: string;
  /** Who discarded it, as far as it was told. */
  readonly by: string | null;
  /** The engine's own headers. */
  readonly systemHeaders: Readonly<Record<string, string>>;
}

/** Where discarded dead letters are kept. */
export interface Archive {
  /**
   * Keeps entries. Resolves only when all of them are as safe as they are going to be; they are removed from the broker
   * then. After a crash some come again: an archive may leave out those whose `id` it has. Called one call at a time by
   * each run; a rejection ends the run, and nothing is removed.
   */
  append(entries: readonly ArchivedEntry[]): Promise<void>;
}

/** An archive in memory, for tests. */
export interface MemoryArchive extends Archive {
  /** What was kept, in order. */
  readonly entries: readonly ArchivedEntry[];
}

/** Makes an archive in memory, which is gone with the process. */
export function memoryArchive(): MemoryArchive {
  const entries = new Map<string, ArchivedEntry>();
  return {
    get entries() {
      return [...entries.values()];
    },
    async append(batch) {
      for (const entry of batch) if (!entries.has(entry.id)) entries.set(entry.id, entry);
    },
  };
}

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

/** An archive in a file; made by {@link fileArchive}. */
export interface FileArchive extends Archive {
  /** Closes the file; it is opened again by the next `append`. A second call does nothing. */
  close(): Promise<void>;
}

/**
 * An archive in a file of JSON lines, one for each entry, which is made if need be, kept from all but its owner, and added
 * to; no link is followed. `append` resolves when the lines are on the disk (`fsync`). What a crash left half written is kept as a line that is
 * no JSON. Entries that stand in the file already are not written again; for that its ids are read once, and kept in
 * memory. Several archives may add to one file, and may then hold an entry twice. Rejections have the code `refused`.
 */
export function fileArchive(path: string): FileArchive {
  return new ArchiveFile(path);
}

class ArchiveFile implements FileArchive {
  readonly #lines: JsonLines;
  /** What stands in the file. */
  #ids: Set<string> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#lines = jsonLines(path, `the archive ${path} cannot be written, and nothing of it was removed`);
  }

  append(entries: readonly ArchivedEntry[]): Promise<void> {
    const appended = this.#last.then(() => this.#append(entries));
    this.#last = appended.catch(() => {});
    return appended;
  }

  async #append(entries: readonly ArchivedEntry[]): Promise<void> {
    const ids = this.#ids ?? (await this.#known());
    this.#ids = ids;
    const fresh = entries.filter(({ id }) => !ids.has(id));
    await this.#lines.append(fresh);
    for (const { id } of fresh) ids.add(id);
  }

  async #known(): Promise<Set<string>> {
    const ids = new Set<string>();
    for await (const entry of this.#lines.read()) {
      const { id } = (entry ?? {}) as Partial<ArchivedEntry>;
      if (typeof id === "string") ids.add(id);
    }
    return ids;
  }

  async close(): Promise<void> {
    await this.#last;
    this.#ids = undefined;
    await this.#lines.close();
  }
}

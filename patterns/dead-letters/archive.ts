import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { openToAppend } from "../../core/private-files.ts";
import { type DeadLetterEntry, stringifyEntry } from "./entry.ts";

/** A discarded dead letter. It has all that is needed to make the message again. Plain JSON. */
export interface ArchivedEntry extends DeadLetterEntry {
  /** ISO time. */
  readonly archivedAt: string;
  readonly run: string;
  /** Who discarded it, if `by` was given. */
  readonly by: string | null;
  /** The engine's own headers. */
  readonly systemHeaders: Readonly<Record<string, string>>;
}

/** Stores discarded dead letters. */
export interface Archive {
  /**
   * Stores entries, and resolves when all of them are durable. Then they are removed from the broker. After a crash some
   * are given again: an archive may skip entries whose `id` it has. Each run makes one call at a time. A rejection ends the
   * run, and nothing of the call is removed.
   */
  append(entries: readonly ArchivedEntry[]): Promise<void>;
}

/** An archive in memory, for tests. */
export interface MemoryArchive extends Archive {
  /** The stored entries, in order. */
  readonly entries: readonly ArchivedEntry[];
}

/** Makes an archive in memory. */
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

/** An append-only file of JSON lines. */
export interface JsonLines {
  /** Resolves when the lines are on the disk. Rejects with `refused`. */
  append(lines: readonly object[]): Promise<void>;
  /** Yields the file's lines; skips lines that are no JSON. Rejects with `refused`. */
  read(): AsyncGenerator<unknown, void, undefined>;
  /** Closes the file. The next call opens it again. A second call does nothing. */
  close(): Promise<void>;
}

/** Opens a file of JSON lines at its first use, and creates it if needed. `problem` is the text of rejections. */
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
        // A write that fails may leave half a line.
        file.torn = true;
        await file.handle.appendFile(whole);
        file.torn = false;
      }
      // Lines that were there before may be by a process that crashed before its fsync.
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

/** Syncs the folder of a new file, so that the file survives a power failure. */
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
    // A crash left half a line.
    return undefined;
  }
}

function reasonOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { readonly code?: unknown };
  if (code === "ENOENT") return "ENOENT: its folder does not exist, or takes no files";
  return typeof code === "string" ? code : thrownText(cause);
}

/** An archive in a file; made by {@link fileArchive}. */
export interface FileArchive extends Archive {
  /** Closes the file. The next `append` opens it again. A second call does nothing. */
  close(): Promise<void>;
}

/**
 * Makes an archive in a file of JSON lines, one per entry. The file is created if needed, only for its owner, and appended
 * to; symbolic links are not followed. `append` resolves after `fsync`. Half a line that a crash left stays, and is no JSON.
 * Entries whose ids are in the file are not written again: the ids are read once and kept in memory. Several archives may
 * append to one file; it may then hold an entry twice. Rejects with `refused`.
 */
export function fileArchive(path: string): FileArchive {
  return new ArchiveFile(path);
}

class ArchiveFile implements FileArchive {
  readonly #lines: JsonLines;
  /** The ids in the file. */
  #ids: Set<string> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#lines = jsonLines(path, `the archive ${path} cannot be written, and nothing was removed`);
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

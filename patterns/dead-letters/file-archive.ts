import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { openToAppend } from "../../core/private-files.ts";
import type { Archive, ArchivedEntry } from "./archive.ts";
import { stringifyEntry } from "./entry.ts";

const NEWLINE = 0x0a;

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
  return new JsonLines(path);
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly ids: Set<string>;
  /** Whether the file ends in the middle of a line. */
  torn: boolean;
}

class JsonLines implements FileArchive {
  readonly #path: string;
  #file: Promise<OpenFile> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  append(entries: readonly ArchivedEntry[]): Promise<void> {
    const appended = this.#last.then(() => this.#append(entries));
    this.#last = appended.catch(() => {});
    return appended;
  }

  async #append(entries: readonly ArchivedEntry[]): Promise<void> {
    try {
      const file = await this.#open();
      const fresh = entries.filter(({ id }) => !file.ids.has(id));
      const lines = fresh.map((entry) => `${stringifyEntry(entry)}\n`).join("");
      if (lines !== "") {
        const text = file.torn ? `\n${lines}` : lines;
        // Until it is known how much of it was written.
        file.torn = true;
        await file.handle.appendFile(text);
        file.torn = false;
      }
      // What stood there already may have been written by a process that died before its fsync.
      await file.handle.sync();
      for (const { id } of fresh) file.ids.add(id);
    } catch (cause) {
      const text = `the archive ${this.#path} cannot be written (${reasonOf(cause)}); nothing of it was removed`;
      throw new MessagingError("refused", text, { cause });
    }
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
    return { handle, ids: size > 0 ? await idsIn(handle) : new Set(), torn: size > 0 && last[0] !== NEWLINE };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function reasonOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { readonly code?: unknown };
  if (code === "ENOENT") return "ENOENT: make its folder first";
  return typeof code === "string" ? code : thrownText(cause);
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

async function idsIn(handle: FileHandle): Promise<Set<string>> {
  const ids = new Set<string>();
  const input = handle.createReadStream({ start: 0, autoClose: false });
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    const id = idOf(line);
    if (id !== undefined) ids.add(id);
  }
  return ids;
}

function idOf(line: string): string | undefined {
  try {
    const { id } = JSON.parse(line) as Partial<ArchivedEntry>;
    return typeof id === "string" ? id : undefined;
  } catch {
    // Half a line, left by a crash.
    return undefined;
  }
}

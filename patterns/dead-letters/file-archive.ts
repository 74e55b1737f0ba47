import type { Archive, ArchivedEntry } from "./archive.ts";
import { type JsonLines, jsonLines } from "./json-lines.ts";

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

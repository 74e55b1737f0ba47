import type { Entry } from "./entry.ts";

/** A dead letter that was discarded, with everything that makes the message again. Plain JSON. */
export interface ArchivedEntry extends Entry {
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

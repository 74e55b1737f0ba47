import { ask } from "../../core/asking.ts";
import type { Clock } from "../../core/index.ts";
import { Gathering } from "./gathering.ts";
import type { JournalMark, MigrationStore } from "./store.ts";

const MOST_AT_ONCE = 1_000;

/** What marks are written with. */
export interface RecordingParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** These could not be written in time. */
  readonly lost: (marks: number, error: unknown) => void;
}

/** Writes marks into the journal, in batches, or does nothing where the journal is waived. */
export class Recording {
  readonly #marks: Gathering<JournalMark, undefined> | undefined;

  constructor(parts: RecordingParts | undefined) {
    if (parts === undefined) return;
    const { store, migration, clock, timeoutMs, lost } = parts;
    this.#marks = new Gathering(MOST_AT_ONCE, async (marks) => {
      const answer = await ask("migration journal", clock, timeoutMs, () => store.mark(migration, marks));
      // What was sent is sent, and what was handled is handled: only the proof is poorer.
      if ("error" in answer) lost(marks.length, answer.error);
      return marks.map(() => undefined);
    });
  }

  get isOn(): boolean {
    return this.#marks !== undefined;
  }

  /** Resolves when it is written, or could not be. Never rejects. */
  async mark(source: string, id: string, mark: JournalMark["mark"]): Promise<void> {
    await this.#marks?.add({ source, id, mark });
  }
}

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
  readonly #marks: Gathering<JournalMark, boolean> | undefined;

  constructor(parts: RecordingParts | undefined) {
    if (parts === undefined) return;
    const { store, migration, clock, timeoutMs, lost } = parts;
    this.#marks = new Gathering(MOST_AT_ONCE, async (marks) => {
      const answer = await ask("migration journal", clock, timeoutMs, () => store.mark(migration, marks));
      if ("error" in answer) lost(marks.length, answer.error);
      return marks.map(() => "value" in answer);
    });
  }

  get isOn(): boolean {
    return this.#marks !== undefined;
  }

  /** Resolves with whether it is written, or need not be. Never rejects. */
  async mark(source: string, id: string, mark: JournalMark["mark"]): Promise<boolean> {
    return (await this.#marks?.add({ source, id, mark })) ?? true;
  }
}

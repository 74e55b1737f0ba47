import type { Clock } from "../../core/index.ts";
import { ask, storableText } from "../../core/stores.ts";
import { Gathering } from "./gathering.ts";
import { LateMarks } from "./late-marks.ts";
import type { JournalMark, MigrationStore } from "./store.ts";

const MOST_AT_ONCE = 1_000;

/** What marks are written with. */
export interface RecordingParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** These could not be written in time. Told once of each. */
  readonly late: (marks: number, error: unknown) => void;
}

/**
 * Writes marks into the journal, in batches, or does nothing where the journal is waived. What the store does not take is
 * tried again: one busy moment of it is not to look like a difference for ever.
 */
export class Recording {
  readonly #marks: Gathering<JournalMark, boolean> | undefined;
  readonly #late: LateMarks | undefined;

  constructor(parts: RecordingParts | undefined) {
    if (parts === undefined) return;
    const { store, migration, clock, timeoutMs, late } = parts;
    const write = (marks: readonly JournalMark[]) =>
      ask("migration journal", clock, timeoutMs, () => store.mark(migration, marks));
    const kept = new LateMarks(clock, MOST_AT_ONCE, async (marks) => "value" in (await write(marks)));
    this.#late = kept;
    this.#marks = new Gathering(MOST_AT_ONCE, async (marks) => {
      const answer = await write(marks);
      if ("error" in answer) {
        late(marks.length, answer.error);
        kept.keep(marks);
      }
      return marks.map(() => "value" in answer);
    });
  }

  get isOn(): boolean {
    return this.#marks !== undefined;
  }

  /** Resolves with whether it is written, or need not be; if not, it may be later. Never rejects. */
  async mark(source: string, id: string, mark: JournalMark["mark"]): Promise<boolean> {
    return (await this.#marks?.add({ source, id: storableText(id), mark })) ?? true;
  }

  start(): void {
    this.#late?.start();
  }

  /** Tries the last time to write what is late. Never rejects. */
  async stop(): Promise<void> {
    await this.#late?.stop();
  }
}

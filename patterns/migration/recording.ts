import { type Answer, ask } from "../../core/asking.ts";
import type { Clock, Timer } from "../../core/index.ts";
import { Gathering } from "./gathering.ts";
import type { JournalMark, MigrationStore } from "./store.ts";

const MOST_AT_ONCE = 1_000;
/** So many marks that the store did not take are kept until it does. */
const MOST_LATE = 10_000;
const AGAIN_MS = 500;

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
 * tried again from time to time: one busy moment of it is not to look like a difference for ever.
 */
export class Recording {
  readonly #parts: RecordingParts | undefined;
  readonly #marks: Gathering<JournalMark, boolean>;
  #late: readonly JournalMark[] = [];
  #timer: Timer | undefined;
  #trying: Promise<boolean> | undefined;
  #isOpen = false;

  constructor(parts: RecordingParts | undefined) {
    this.#parts = parts;
    this.#marks = new Gathering(MOST_AT_ONCE, async (marks) => {
      const answer = await this.#write(marks);
      if ("error" in answer) {
        parts?.late(marks.length, answer.error);
        this.#keep(marks);
      }
      return marks.map(() => "value" in answer);
    });
  }

  get isOn(): boolean {
    return this.#parts !== undefined;
  }

  /** Resolves with whether it is written, or need not be; if not, it may be later. Never rejects. */
  async mark(source: string, id: string, mark: JournalMark["mark"]): Promise<boolean> {
    return this.#parts === undefined || this.#marks.add({ source, id, mark });
  }

  start(): void {
    this.#isOpen = true;
  }

  /** Tries the last time to write what is late, and keeps none of it. Never rejects. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    if (this.#timer !== undefined) this.#parts?.clock.cancel(this.#timer);
    this.#timer = undefined;
    await this.#trying;
    while (this.#late.length > 0 && (await this.#tryLate()));
    this.#late = [];
  }

  #keep(marks: readonly JournalMark[]): void {
    if (!this.#isOpen) return;
    this.#late = [...this.#late, ...marks].slice(0, MOST_LATE);
    if (this.#late.length === 0) return;
    this.#timer ??= this.#parts?.clock.schedule(() => {
      this.#timer = undefined;
      this.#trying = this.#tryLate();
    }, AGAIN_MS);
  }

  async #tryLate(): Promise<boolean> {
    const marks = this.#late.slice(0, MOST_AT_ONCE);
    this.#late = this.#late.slice(MOST_AT_ONCE);
    const written = "value" in (await this.#write(marks));
    // What else is late comes next.
    this.#keep(written ? [] : marks);
    return written;
  }

  async #write(marks: readonly JournalMark[]): Promise<Answer<void>> {
    if (this.#parts === undefined) return { value: undefined };
    const { store, migration, clock, timeoutMs } = this.#parts;
    return ask("migration journal", clock, timeoutMs, () => store.mark(migration, marks));
  }
}

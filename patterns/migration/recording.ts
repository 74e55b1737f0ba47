import type { Clock, Timer } from "../../core/clock.ts";
import { ask, storableText } from "../../core/stores.ts";
import { Gathering } from "./gathering.ts";
import type { JournalMark, MigrationStore } from "./store.ts";

/** So many marks that the store did not take are kept until it does. */
const MOST_LATE = 10_000;
const AGAIN_MS = 500;

/** Marks that the store did not take, tried again from time to time, one batch at a time. */
class LateMarks {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #write: (marks: readonly JournalMark[]) => Promise<boolean>;
  #marks: readonly JournalMark[] = [];
  #timer: Timer | undefined;
  #trying: Promise<boolean> | undefined;
  #isOpen = false;

  /** `write` takes `most` marks at once, and resolves with whether they are written. */
  constructor(clock: Clock, most: number, write: (marks: readonly JournalMark[]) => Promise<boolean>) {
    this.#clock = clock;
    this.#most = most;
    this.#write = write;
  }

  start(): void {
    this.#isOpen = true;
  }

  /** Keeps them to be written later; those that are too many, or come after {@link stop}, are dropped. */
  keep(marks: readonly JournalMark[]): void {
    if (!this.#isOpen) return;
    this.#marks = [...this.#marks, ...marks].slice(0, MOST_LATE);
    this.#later();
  }

  /** Tries the last time to write them, and keeps none. Never rejects. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
    await this.#trying;
    while (this.#marks.length > 0 && (await this.#try()));
    this.#marks = [];
  }

  #later(): void {
    if (!this.#isOpen || this.#marks.length === 0 || this.#trying !== undefined) return;
    this.#timer ??= this.#clock.schedule(() => {
      this.#timer = undefined;
      this.#trying = this.#try();
      void this.#trying.then(() => {
        this.#trying = undefined;
        this.#later();
      });
    }, AGAIN_MS);
  }

  /** What is refused goes behind what else is late. */
  async #try(): Promise<boolean> {
    const marks = this.#marks.slice(0, this.#most);
    const written = await this.#write(marks);
    this.#marks = [...this.#marks.slice(marks.length), ...(written ? [] : marks)];
    return written;
  }
}

const MOST_AT_ONCE = 1_000;

/** What marks are written with. */
interface RecordingParts {
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

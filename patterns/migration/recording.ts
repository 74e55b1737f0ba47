import type { Clock, Timer } from "../../core/clock.ts";
import { ask, storableText } from "../../core/stores.ts";
import { CallBatcher } from "./call-batcher.ts";
import type { JournalMark, MigrationStore } from "./store.ts";

/** The most marks to keep for a retry. */
const MOST_LATE = 10_000;
const AGAIN_MS = 500;

/** Marks that the store did not take. Retries them in batches. */
class LateMarks {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #write: (marks: readonly JournalMark[]) => Promise<boolean>;
  #marks: readonly JournalMark[] = [];
  #timer: Timer | undefined;
  #trying: Promise<boolean> | undefined;
  #isOpen = false;

  /** `write` stores a batch of at most `most` marks, and resolves with whether it is stored. */
  constructor(clock: Clock, most: number, write: (marks: readonly JournalMark[]) => Promise<boolean>) {
    this.#clock = clock;
    this.#most = most;
    this.#write = write;
  }

  start(): void {
    this.#isOpen = true;
  }

  /** Keeps marks for a retry. Drops those over the limit, and all after {@link stop}. */
  keep(marks: readonly JournalMark[]): void {
    if (!this.#isOpen) return;
    this.#marks = [...this.#marks, ...marks].slice(0, MOST_LATE);
    this.#later();
  }

  /** Tries to write the marks a last time, then drops them. Never rejects. */
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

  /** Writes the first batch. If it fails, it goes to the end. */
  async #try(): Promise<boolean> {
    const marks = this.#marks.slice(0, this.#most);
    const written = await this.#write(marks);
    this.#marks = [...this.#marks.slice(marks.length), ...(written ? [] : marks)];
    return written;
  }
}

const MOST_AT_ONCE = 1_000;

/** The parts of {@link Recording}. */
interface RecordingParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Called when marks could not be stored in time. */
  readonly late: (marks: number, error: unknown) => void;
}

/** Writes marks into the journal in batches, and retries them. Does nothing if the journal is waived. */
export class Recording {
  readonly #marks: CallBatcher<JournalMark, boolean> | undefined;
  readonly #late: LateMarks | undefined;

  constructor(parts: RecordingParts | undefined) {
    if (parts === undefined) return;
    const { store, migration, clock, timeoutMs, late } = parts;
    const write = (marks: readonly JournalMark[]) =>
      ask("migration journal", clock, timeoutMs, () => store.mark(migration, marks));
    const kept = new LateMarks(clock, MOST_AT_ONCE, async (marks) => "value" in (await write(marks)));
    this.#late = kept;
    this.#marks = new CallBatcher(MOST_AT_ONCE, async (marks) => {
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

  /** Resolves with whether the mark is stored or not needed. Otherwise it may be stored later. Never rejects. */
  async mark(source: string, id: string, mark: JournalMark["mark"]): Promise<boolean> {
    return (await this.#marks?.add({ source, id: storableText(id), mark })) ?? true;
  }

  start(): void {
    this.#late?.start();
  }

  /** Tries to write late marks a last time. Never rejects. */
  async stop(): Promise<void> {
    await this.#late?.stop();
  }
}

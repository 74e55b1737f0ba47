import type { Clock, Timer } from "../../core/index.ts";
import type { JournalMark } from "./store.ts";

/** So many marks that the store did not take are kept until it does. */
const MOST_LATE = 10_000;
const AGAIN_MS = 500;

/** Marks that the store did not take, tried again from time to time, one batch at a time. */
export class LateMarks {
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

import { type JsonLines, jsonLines } from "./archive.ts";
import type { DeadLetter } from "./dead-letter.ts";

/**
 * What became of a message of a plan:
 * - `replayed`, `edited`, `discarded`: it is safe there, and was removed here.
 * - `failed`: it stands as before; `detail` says why.
 * - `left`: an edit left it as it was.
 * - `missing`: it was not there any more; `detail` says why.
 * - `came-back`: what was sent back is dead again, under the entry id in `detail`.
 */
export type JournaledOutcome = "replayed" | "edited" | "discarded" | "failed" | "left" | "missing" | "came-back";

/** A line of a journal: plain JSON. Never holds a body or a header. */
export interface JournalLine {
  readonly run: string;
  /** `begun` and `ended` are about the run, or the part of it that was resumed; everything else is about one message. */
  readonly what: "begun" | "ended" | JournaledOutcome;
  /** ISO time. */
  readonly at: string;
  /** Who did it, as far as it was told. */
  readonly by: string | null;
  /** The id of the entry, as the plan has it. Null on `begun` and `ended`. */
  readonly id: string | null;
  readonly messageId: string | null;
  /** The fingerprint of its failure; null on `begun` and `ended`, and for what was not there any more. */
  readonly group: string | null;
  /** More in words: the id of an edited copy, an error, why a run stopped. */
  readonly detail: string | null;
}

/** Where it is written down what became of each message of a run. */
export interface Journal {
  /**
   * Keeps lines. Called one call at a time by each run. Where the first of a run rejects nothing is done; where a later one
   * does the run ends with `error`.
   */
  append(lines: readonly JournalLine[]): Promise<void>;
  /** Every line that was kept, in order, of other runs too. Of a run that is resumed it tells what was done before. */
  read(): AsyncIterable<JournalLine>;
}

/** A journal in a file; made by {@link fileJournal}. */
export interface FileJournal extends Journal {
  /** Closes the file; it is opened again by the next `append`. A second call does nothing. */
  close(): Promise<void>;
}

/**
 * A journal in a file of JSON lines, which is made if need be, kept from all but its owner, and added to; no link is
 * followed. `append` resolves when the lines are on the disk (`fsync`). What a crash left half written is passed over when
 * it is read. Rejections have the code `refused`.
 */
export function fileJournal(path: string): FileJournal {
  const lines: JsonLines = jsonLines(path, `the journal ${path} cannot be written`);
  return {
    append: (batch) => lines.append(batch),
    async *read() {
      for await (const line of lines.read()) if (isJournalLine(line)) yield line;
    },
    close: () => lines.close(),
  };
}

/** A journal in memory, for tests. */
export interface MemoryJournal extends Journal {
  readonly lines: readonly JournalLine[];
}

/** Makes a journal in memory, which is gone with the process. */
export function memoryJournal(): MemoryJournal {
  const lines: JournalLine[] = [];
  return {
    get lines() {
      return [...lines];
    },
    async append(batch) {
      lines.push(...batch);
    },
    async *read() {
      yield* [...lines];
    },
  };
}

const OUTCOMES: readonly JournalLine["what"][] = [
  ...(["begun", "ended", "replayed", "edited", "discarded", "failed", "left", "missing", "came-back"] as const),
];

function isJournalLine(given: unknown): given is JournalLine {
  const { run, what, at, by, id, messageId, group, detail } = (given ?? {}) as Partial<JournalLine>;
  return (
    [run, at].every((text) => typeof text === "string") &&
    OUTCOMES.includes(what as JournalLine["what"]) &&
    [by, id, messageId, group, detail].every((text) => text === null || typeof text === "string")
  );
}

/** What earlier parts of a run did, and saw. */
export interface Earlier {
  /** The ids of entries that were sent back or discarded. */
  readonly done: ReadonlySet<string>;
  /** The ids of the entries that came back. */
  readonly cameBack: ReadonlySet<string>;
}

/** Writes the lines of one run, and gathers those that come while others are being written. */
export class JournalWriter {
  readonly #journal: Journal | undefined;
  readonly #base: { readonly run: string; readonly by: string | null };
  readonly #now: () => number;
  #gathered: JournalLine[] = [];
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(
    journal: Journal | undefined,
    base: { readonly run: string; readonly by: string | null },
    now: () => number,
  ) {
    this.#journal = journal;
    this.#base = base;
    this.#now = now;
  }

  /** What earlier parts of the run did, and saw. */
  async earlier(): Promise<Earlier> {
    const earlier = { done: new Set<string>(), cameBack: new Set<string>() };
    if (this.#journal === undefined) return earlier;
    for await (const { run, what, id, detail } of this.#journal.read()) {
      if (run !== this.#base.run || id === null) continue;
      if (what === "replayed" || what === "edited" || what === "discarded") earlier.done.add(id);
      if (what === "came-back" && detail !== null) earlier.cameBack.add(detail);
    }
    return earlier;
  }

  /** Resolves when it is written; rejects as the journal does. */
  about(letter: DeadLetter, what: JournaledOutcome, detail: string | null = null): Promise<void> {
    const { id, message, group } = letter;
    return this.note({ what, id, messageId: message.id, group, detail });
  }

  /** Resolves when it is written; rejects as the journal does. */
  note(line: Pick<JournalLine, "what"> & Partial<JournalLine>): Promise<void> {
    if (this.#journal === undefined) return Promise.resolve();
    const at = new Date(this.#now()).toISOString();
    this.#gathered.push({ id: null, messageId: null, group: null, detail: null, ...line, ...this.#base, at });
    this.#next ??= this.#writing.then(() => {
      this.#next = undefined;
      const lines = this.#gathered;
      this.#gathered = [];
      const written = (async () => this.#journal?.append(lines))();
      this.#writing = written.catch(() => {});
      return written;
    });
    return this.#next;
  }
}

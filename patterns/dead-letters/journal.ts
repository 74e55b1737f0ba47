import { type JsonLines, jsonLines } from "./archive.ts";
import type { DeadLetter } from "./dead-letter.ts";

/**
 * The result for one message of a plan:
 * - `replayed`, `edited`, `discarded`: it was sent or archived, and removed.
 * - `failed`: it stays; `detail` has the error.
 * - `left`: the edit returned undefined; it stays.
 * - `missing`: it was not found; `detail` has the reason.
 * - `came-back`: a replayed message was dead-lettered again; `detail` has the new entry id.
 */
export type JournaledOutcome = "replayed" | "edited" | "discarded" | "failed" | "left" | "missing" | "came-back";

/** A line of a journal. Plain JSON, without bodies and headers. */
export interface JournalLine {
  readonly run: string;
  /** `begun` and `ended` are about the run, or its resumed part. All others are about one message. */
  readonly what: "begun" | "ended" | JournaledOutcome;
  /** ISO time. */
  readonly at: string;
  /** Who ran it, if `by` was given. */
  readonly by: string | null;
  /** The id of the entry in the plan. Null on `begun` and `ended`. */
  readonly id: string | null;
  readonly messageId: string | null;
  /** The fingerprint of its failure. Null on `begun`, `ended` and `missing`. */
  readonly group: string | null;
  /** Details: rate and ramp of a part as JSON, the id of an edited copy, an error, why a run stopped. */
  readonly detail: string | null;
}

/** Records what became of each message of a run. */
export interface Journal {
  /**
   * Stores lines. Each run makes one call at a time. If the first call of a run rejects, the run does not start. If a later
   * call rejects, the run ends with `error`.
   */
  append(lines: readonly JournalLine[]): Promise<void>;
  /** Yields every stored line in order, also of other runs. A resumed run reads from it what was done before. */
  read(): AsyncIterable<JournalLine>;
}

/** A journal in a file; made by {@link fileJournal}. */
export interface FileJournal extends Journal {
  /** Closes the file. The next `append` opens it again. A second call does nothing. */
  close(): Promise<void>;
}

/**
 * Makes a journal in a file of JSON lines. The file is created if needed, only for its owner, and appended to; symbolic
 * links are not followed. `append` resolves after `fsync`. Half a line that a crash left is skipped. Rejects with `refused`.
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

/** Makes a journal in memory. */
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

/** What earlier parts of a resumed run did. */
export interface Earlier {
  /** The ids of entries that were replayed, edited or discarded. */
  readonly done: ReadonlySet<string>;
  /** The entry ids of messages that came back. */
  readonly cameBack: ReadonlySet<string>;
}

/** Writes the lines of one run, and batches lines while a write is in progress. */
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

  /** Reads what earlier parts of the run did. */
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

  /** Writes a line about a message. Rejects as the journal does. */
  about(letter: DeadLetter, what: JournaledOutcome, detail: string | null = null): Promise<void> {
    const { id, message, group } = letter;
    return this.note({ what, id, messageId: message.id, group, detail });
  }

  /** Writes a line. Rejects as the journal does. */
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

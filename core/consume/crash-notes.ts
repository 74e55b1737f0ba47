import type { IncomingMessage } from "../adapter.ts";
import { HEADER, numberHeader } from "../system-headers.ts";

/** A record in a quarantine log: a consumer runs a message. */
export interface StartNote {
  /** The consumer that wrote it. */
  readonly by: string;
  /** The message; see {@link copyId}. */
  readonly of: string;
  /** Whether no other handler of the consumer runs beside it. */
  readonly alone: boolean;
}

/** The crashes of consumers that ran a message, by the log. */
interface FoundCrashes {
  /** Consumers that crashed while a handler ran on it. */
  readonly crashes: number;
  /** Those of them that ran nothing else. */
  readonly alone: number;
}

type NoteState = "started" | "running" | "over";

interface Note extends StartNote {
  /** Counts the records of one writer. */
  readonly sequence: number;
  readonly state: NoteState;
}

/** A note under observation. */
interface Watched {
  latest: Note;
  /** Whether its writer has written since it was first seen. */
  isHeard: boolean;
  /** How long its writer has written nothing while the log could be read. */
  silentMs: number;
}

/** Identifies the stored message: a retry copy and a replay have other ids. */
export function copyId({ id, headers }: IncomingMessage): string {
  return `${id} ${numberHeader(headers, HEADER.replays, 0)} ${numberHeader(headers, HEADER.attempts, 0)}`;
}

/** A note as a record of the log. */
export function writtenNote({ by, of, alone }: StartNote, state: NoteState, sequence: number): string {
  return JSON.stringify({ by, of, alone, state, sequence });
}

/** The note in a record; undefined if there is none. */
function readNote(record: string): Note | undefined {
  try {
    const { by, of, alone, state, sequence } = JSON.parse(record) as Partial<Record<keyof Note, unknown>>;
    const isNote = typeof by === "string" && typeof of === "string" && typeof sequence === "number";
    if (!isNote || (state !== "started" && state !== "running" && state !== "over")) return undefined;
    return { by, of, alone: alone === true, state, sequence };
  } catch {
    return undefined;
  }
}

/**
 * Finds the notes of crashed consumers: notes that are not over, whose writers have been silent for a while. The silence
 * is measured by this machine's clock, only between two successful reads, and only in part where these are far apart.
 */
export class NoteReader {
  readonly #self: string;
  readonly #silenceMs: number;
  readonly #watched = new Map<string, Watched>();
  #readAt: number | undefined;

  constructor(self: string, silenceMs: number) {
    this.#self = self;
    this.#silenceMs = silenceMs;
  }

  /** Whether it measures the silence of a writer. */
  get isWatching(): boolean {
    return this.#watched.size > 0;
  }

  /** Takes the records of a read that began at `at`, by the monotonic clock. */
  learn(records: readonly string[], at: number): void {
    const passedMs = this.#readAt === undefined ? 0 : Math.min(at - this.#readAt, this.#silenceMs / 2);
    this.#readAt = at;
    const latest = new Map<string, Note>();
    for (const record of records) {
      const note = readNote(record);
      if (note === undefined || note.by === this.#self) continue;
      const name = `${note.by} ${note.of}`;
      const other = latest.get(name);
      if (other === undefined || other.sequence < note.sequence) latest.set(name, note);
    }
    for (const watched of this.#watched.values()) watched.silentMs += passedMs;
    for (const [name, note] of latest) {
      const watched = this.#watched.get(name);
      if (watched === undefined) this.#watched.set(name, { latest: note, isHeard: false, silentMs: 0 });
      else if (note.sequence > watched.latest.sequence) {
        watched.latest = note;
        watched.isHeard = true;
        watched.silentMs = 0;
      }
    }
  }

  /** Starts the measuring again, because the log could not be read. */
  missed(): void {
    this.#readAt = undefined;
    for (const watched of this.#watched.values()) watched.silentMs = 0;
  }

  /** Ends the measuring. */
  forget(): void {
    this.#watched.clear();
    this.#readAt = undefined;
  }

  /** The crashes of a message; `unclear` while the writer of one of its notes may still run. */
  crashes(of: string): FoundCrashes | "unclear" {
    let [crashes, alone] = [0, 0];
    for (const { latest, isHeard, silentMs } of this.#watched.values()) {
      if (latest.of !== of || latest.state === "over") continue;
      if (silentMs < this.#silenceMs) {
        if (isHeard) continue;
        return "unclear";
      }
      crashes++;
      if (latest.alone) alone++;
    }
    return { crashes, alone };
  }
}

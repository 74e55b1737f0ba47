import type { IncomingMessage } from "../adapter.ts";
import { HEADER, numberHeader } from "../system-headers.ts";

/** That a consumer runs a message, as it stands in a quarantine log. */
export interface StartNote {
  /** The consumer that wrote it. */
  readonly by: string;
  /** The message; see {@link copyId}. */
  readonly of: string;
  /** Whether no other handler of the consumer runs beside it. */
  readonly alone: boolean;
}

/** What the log says of the crashes around a message. */
export interface FoundCrashes {
  /** In how many consumers a handler ran on it when they crashed. */
  readonly crashes: number;
  /** In how many of them with nothing beside it. */
  readonly alone: number;
}

type NoteState = "started" | "running" | "over";

interface Note extends StartNote {
  /** The writer's own count of records. */
  readonly sequence: number;
  readonly state: NoteState;
}

/** A note that was seen while somebody waits to know about it. */
interface Watched {
  latest: Note;
  /** Its writer has written since it was seen first. */
  isHeard: boolean;
  /** For how long nothing was written since, although we could have read it. */
  silentMs: number;
}

/** The message as it is stored now: another attempt by a copy, or a replay, begins anew. */
export function copyId({ id, headers }: IncomingMessage): string {
  return `${id} ${numberHeader(headers, HEADER.replays, 0)} ${numberHeader(headers, HEADER.attempts, 0)}`;
}

/** A note as a record of the log. */
export function writtenNote({ by, of, alone }: StartNote, state: NoteState, sequence: number): string {
  return JSON.stringify({ by, of, alone, state, sequence });
}

/** The note in a record; undefined for what is none. */
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
 * Tells from readings of the log which notes are those of crashed consumers: those that are not over, and whose writers
 * wrote nothing for a while. Clocks of machines are not compared: the while is counted here, and only where the log could
 * be read at both its ends, and not all of it where the two are far apart.
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

  /** Whether the silence of somebody is measured. */
  get isWatching(): boolean {
    return this.#watched.size > 0;
  }

  /** Takes in what a reading brought that began at a time of the monotonic clock. */
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

  /** The log could not be read: the time since the last reading tells nothing. */
  missed(): void {
    this.#readAt = undefined;
    for (const watched of this.#watched.values()) watched.silentMs = 0;
  }

  /** Nobody waits any more. */
  forget(): void {
    this.#watched.clear();
    this.#readAt = undefined;
  }

  /** What is known of the crashes around a message; `unclear` while one of its notes may be of a consumer that lives. */
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

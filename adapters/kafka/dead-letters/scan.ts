import { MessagingError } from "../../../core/errors.ts";
import type { LogRecord } from "../records/contract.ts";
import { BodyReader, notThere } from "./body-reader.ts";
import type { Log } from "./contract.ts";
import { restoredRecord } from "./dead-letter-record.ts";
import { type Copy, Entries } from "./entries.ts";
import { asText } from "./entry-key.ts";

const WAIT_MS = 500;
const MOST_IDLE = 20;

/** A dead letter that stands, looked at without taking it. */
export interface DeadLetterEntry {
  /** What names it, for {@link DeadLettersScan.keysOf}: of a message that comes here anew it is another. */
  readonly key: string;
  /** Where it stands in the order of all; a page goes on behind it. */
  readonly offset: number;
  readonly record: LogRecord;
}

/**
 * What stood in the dead letters when it was read, whoever receives them meanwhile. Its memory holds keys and offsets, not
 * bodies.
 */
export class DeadLettersScan {
  readonly #log: Log;
  readonly #entries: Entries;

  private constructor(log: Log, entries: Entries) {
    this.#log = log;
    this.#entries = entries;
  }

  /** Reads the log once, from its beginning to where its end is when it gets there. The log has to stay open. */
  static async of(log: Log): Promise<DeadLettersScan> {
    const entries = new Entries();
    let position = await log.first();
    for (let idle = 0; ; ) {
      const piece = await log.read(position, idle === 0 ? 0 : WAIT_MS);
      if (piece === "out-of-range") {
        throw new MessagingError("conflict", `"${log.topic}" was made anew or cut while it was read; try again`);
      }
      for (const { key, value, offset } of piece.records) {
        if (key === undefined) continue;
        if (value === undefined) entries.remove(asText(key));
        else entries.put(asText(key), offset);
      }
      const before = position;
      position = piece.unreadable === undefined ? piece.nextOffset : resumeAt(piece.unreadable);
      if (position >= piece.end) return new DeadLettersScan(log, entries);
      // Nothing comes, too, to one who asks for more than its quota allows.
      idle = position > before ? 0 : idle + 1;
      if (idle > MOST_IDLE) throw notThere(log, position);
    }
  }

  /** How many stand. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * The entries behind an offset, in order, as they are read. Those removed meanwhile are left out.
   */
  async *entries(behind = -1): AsyncGenerator<DeadLetterEntry, void, undefined> {
    const bodies = new BodyReader(this.#log);
    for (const { copies } of this.#entries) {
      const { key, offset } = copies.at(-1) as Copy;
      if (offset <= behind) continue;
      const found = await bodies.find(offset);
      if ("record" in found) yield { key, offset, record: restoredRecord(found.record) };
      else if (found.gone !== undefined) throw found.gone;
    }
  }

  /**
   * All that has to be removed for an entry to be gone: the keys of its records up to the one named. Empty if it does not
   * stand any more.
   */
  keysOf(key: string): readonly string[] {
    const copies = this.#entries.find(key)?.copies ?? [];
    return copies.slice(0, copies.findIndex((copy) => copy.key === key) + 1).map((copy) => copy.key);
  }
}

function resumeAt({ resumeAt: position, error }: { resumeAt: number | undefined; error: MessagingError }): number {
  if (position === undefined) throw error;
  return position;
}

/** How many dead letters stand, exactly, at one moment. Reads the whole log; closes it. */
export async function countDeadLetters(log: Log): Promise<number> {
  try {
    return (await DeadLettersScan.of(log)).size;
  } finally {
    await log.close();
  }
}

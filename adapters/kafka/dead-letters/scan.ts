import type { LogRecord } from "../records/contract.ts";
import { BodyReader } from "./body-reader.ts";
import type { Log } from "./contract.ts";
import { restoredRecord } from "./dead-letter-record.ts";
import { type Copy, Entries } from "./entries.ts";
import { asText } from "./entry-key.ts";
import { readThrough } from "./read-through.ts";

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
    await readThrough(log, ({ key, value, offset }) => {
      if (key === undefined) return;
      if (value === undefined) entries.remove(asText(key));
      else entries.put(asText(key), offset);
    });
    return new DeadLettersScan(log, entries);
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

/** How many dead letters stand, exactly, at one moment. Reads the whole log; closes it. */
export async function countDeadLetters(log: Log): Promise<number> {
  try {
    return (await DeadLettersScan.of(log)).size;
  } finally {
    await log.close();
  }
}

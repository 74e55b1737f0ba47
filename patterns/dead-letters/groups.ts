import type { DeadLetter } from "./dead-letter.ts";
import { type Entry, entryOf } from "./entry.ts";
import { normalisedError } from "./fingerprint.ts";
import type { Source } from "./source.ts";

/** Dead letters that failed in the same way. Plain JSON, the same on every broker. */
export interface Group {
  /** The fingerprint of destination, error class and normalised message; for a filter: `group = …`. */
  readonly group: string;
  readonly destination: string;
  readonly errorClass: string | null;
  /** The error's message with what differs from one to the next taken out. */
  readonly error: string;
  readonly count: number;
  /** ISO times of the first failure and of the last one in it. */
  readonly firstFailedAt: string | null;
  readonly lastFailedAt: string | null;
  /** The entry that failed first, with the beginning of its body. */
  readonly example: Entry;
}

interface Counted {
  count: number;
  first: number | undefined;
  last: number | undefined;
  time: number;
  errorClass: string | undefined;
  error: string;
  example: Entry | Promise<Entry>;
}

/** Counts dead letters by their fingerprints. Memory is bounded by the number of groups that are kept. */
export class Grouping {
  readonly #source: Source;
  readonly #bodyBytes: number;
  readonly #most: number;
  readonly #groups = new Map<string, Counted>();
  #others = 0;

  constructor(source: Source, bodyBytes: number, most: number) {
    this.#source = source;
    this.#bodyBytes = bodyBytes;
    this.#most = most;
  }

  /** How many belong to none of the groups that are kept. */
  get others(): number {
    return this.#others;
  }

  add(letter: DeadLetter): void {
    const { firstFailedAt, lastFailedAt, time, group } = letter;
    const known = this.#groups.get(group);
    if (known === undefined) {
      if (this.#groups.size >= this.#most) this.#others++;
      else this.#groups.set(group, this.#begin(letter));
      return;
    }
    known.count++;
    known.first = least(known.first, firstFailedAt);
    known.last = most(known.last, lastFailedAt);
    if (time >= known.time) return;
    known.time = time;
    known.example = entryOf(letter, this.#source, this.#bodyBytes);
  }

  #begin(letter: DeadLetter): Counted {
    const { firstFailedAt, lastFailedAt, time, errorClass, error } = letter;
    const example = entryOf(letter, this.#source, this.#bodyBytes);
    const normalised = normalisedError(error ?? "");
    return { count: 1, first: firstFailedAt, last: lastFailedAt, time, errorClass, error: normalised, example };
  }

  /** The largest first. */
  async groups(): Promise<readonly Group[]> {
    const groups = await Promise.all(
      [...this.#groups].map(async ([group, { count, first, last, errorClass, error, example }]) => {
        return {
          group,
          destination: this.#source.name,
          errorClass: errorClass ?? null,
          error,
          count,
          firstFailedAt: first === undefined ? null : new Date(first).toISOString(),
          lastFailedAt: last === undefined ? null : new Date(last).toISOString(),
          example: await example,
        };
      }),
    );
    return groups.sort((one, other) => other.count - one.count || (one.group < other.group ? -1 : 1));
  }
}

function least(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.min(one, other);
}

function most(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}

import { type DeadLetter, normalisedError, type Source } from "./dead-letter.ts";
import { type DeadLetterEntry, entryOf } from "./entry.ts";

const PLACE = /^(\d{1,16})\.([A-Za-z0-9_-]{22})$/;

/** The position of an entry: the time of its failure, then its id. The same on every broker. */
export interface Place {
  readonly time: number;
  readonly id: string;
}

export function placeOf({ time, id }: DeadLetter): Place {
  return { time, id };
}

/** Formats a position as a cursor. */
export function printPlace({ time, id }: Place): string {
  return `${time}.${id}`;
}

/** Parses a cursor; undefined if it is none. */
export function parsePlace(cursor: string): Place | undefined {
  const [, time, id] = PLACE.exec(cursor) ?? [];
  return time === undefined || id === undefined ? undefined : { time: Number(time), id };
}

export function comparePlaces(one: Place, other: Place): number {
  if (one.time !== other.time) return one.time - other.time;
  return one.id < other.id ? -1 : one.id > other.id ? 1 : 0;
}

/** Keeps the first `most` of all offered items, ordered by place. */
export class FirstOf<Item> {
  readonly #most: number;
  readonly #kept: { readonly place: Place; readonly item: Item }[] = [];
  #more = false;

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether an item was dropped. */
  get more(): boolean {
    return this.#more;
  }

  /** The items, ordered by place. */
  get kept(): readonly { readonly place: Place; readonly item: Item }[] {
    return this.#kept;
  }

  /** Calls `make` only for an item that is kept for now. Skips a place that is kept already. */
  offer(place: Place, make: () => Item): void {
    const kept = this.#kept;
    let low = 0;
    let high = kept.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (comparePlaces((kept[middle] as { place: Place }).place, place) < 0) low = middle + 1;
      else high = middle;
    }
    const present = kept[low];
    if (present !== undefined && comparePlaces(present.place, place) === 0) return;
    if (low === this.#most) {
      this.#more = true;
      return;
    }
    kept.splice(low, 0, { place, item: make() });
    if (kept.length <= this.#most) return;
    kept.pop();
    this.#more = true;
  }
}

/** Dead letters with the same failure. Plain JSON, the same on every broker. */
export interface DeadLetterGroup {
  /** The fingerprint of destination, error class and normalised message; for a filter: `group = …`. */
  readonly group: string;
  readonly destination: string;
  readonly errorClass: string | null;
  /** The normalised message: values are replaced by the names of their kinds. */
  readonly error: string;
  readonly count: number;
  /** ISO times of the first and the last failure in the group. */
  readonly firstFailedAt: string | null;
  readonly lastFailedAt: string | null;
  /** The entry with the oldest last failure, with the beginning of its body. */
  readonly example: DeadLetterEntry;
}

interface Counted {
  count: number;
  first: number | undefined;
  last: number | undefined;
  time: number;
  errorClass: string | undefined;
  error: string;
  example: DeadLetterEntry | Promise<DeadLetterEntry>;
}

/** Counts dead letters by fingerprint. Memory is bounded by the number of groups. */
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

  /** Entries of further groups. */
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

  /** The groups, the largest first. */
  async groups(): Promise<readonly DeadLetterGroup[]> {
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

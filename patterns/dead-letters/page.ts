import type { DeadLetter } from "./dead-letter.ts";

const PLACE = /^(\d{1,16})\.([A-Za-z0-9_-]{22})$/;

/** Where an entry stands in the order of all: by the time of its failure, then by its id. The same on every broker. */
export interface Place {
  readonly time: number;
  readonly id: string;
}

export function placeOf({ time, id }: DeadLetter): Place {
  return { time, id };
}

/** A place as text, for a cursor. */
export function printPlace({ time, id }: Place): string {
  return `${time}.${id}`;
}

/** Undefined for what is no cursor. */
export function parsePlace(cursor: string): Place | undefined {
  const [, time, id] = PLACE.exec(cursor) ?? [];
  return time === undefined || id === undefined ? undefined : { time: Number(time), id };
}

export function comparePlaces(one: Place, other: Place): number {
  if (one.time !== other.time) return one.time - other.time;
  return one.id < other.id ? -1 : one.id > other.id ? 1 : 0;
}

/** Keeps the first so many of all that are offered, in order. Memory is bounded by that number. */
export class FirstOf<Item> {
  readonly #most: number;
  readonly #kept: { readonly place: Place; readonly item: Item }[] = [];
  #more = false;

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether any had to be left out. */
  get more(): boolean {
    return this.#more;
  }

  /** In order. */
  get kept(): readonly { readonly place: Place; readonly item: Item }[] {
    return this.#kept;
  }

  /** `make` is called only for what is kept for now. One that is there already is not taken twice. */
  offer(place: Place, make: () => Item): void {
    const kept = this.#kept;
    let low = 0;
    let high = kept.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (comparePlaces((kept[middle] as { place: Place }).place, place) < 0) low = middle + 1;
      else high = middle;
    }
    const there = kept[low];
    if (there !== undefined && comparePlaces(there.place, place) === 0) return;
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

import type { Place, Settings } from "./options.ts";

/**
 * Which of the hosts are tried in which order. All connections of an adapter go to one host while it serves: what was
 * declared over one of them is there at once for the others.
 */
export class Hosts {
  readonly #random: () => number;
  #order: readonly Place[];
  #current: Place | undefined;

  constructor(all: readonly Place[], random: () => number = Math.random) {
    this.#random = random;
    this.#order = this.#shuffled(all);
  }

  /** The one that serves, then the others in random order, and last the one that was lost. */
  order(): readonly Place[] {
    const current = this.#current;
    return current === undefined ? this.#order : [current, ...this.#order.filter((place) => place !== current)];
  }

  connected(place: Place): void {
    this.#current = place;
  }

  /** A connection there was lost, or could not be made. */
  lost(place: Place): void {
    if (this.#current === place) this.#current = undefined;
    // Told by each connection that was there: the second must not go another way than the first.
    if (this.#order.at(-1) === place) return;
    this.#order = [...this.#shuffled(this.#order.filter((one) => one !== place)), place];
  }

  #shuffled(places: readonly Place[]): readonly Place[] {
    return places
      .map((place) => ({ place, rank: this.#random() }))
      .sort((one, other) => one.rank - other.rank)
      .map(({ place }) => place);
  }
}

/** One host for people. */
export function placeText({ host, port }: Place): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** All hosts for people. */
export function placesText({ hosts }: Pick<Settings, "hosts">): string {
  return hosts.map(placeText).join(", ");
}

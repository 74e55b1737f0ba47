import type { Matched, Place, Request } from "./rides.ts";

const DRIVERS = 40;
const START_CENTS = 320;
const CENTS_PER_KM = 180;

/** The drivers of the town, each where the last ride ended. */
export class Drivers {
  readonly #places = new Map(Array.from({ length: DRIVERS }, (_, n) => [`driver-${n}`, { x: n % 8, y: n % 11 }]));
  readonly #matched = new Map<string, Matched>();
  #sentOut = 0;

  /** Sends the nearest driver to a ride, once: who asks again, because a request came twice, is told the same. */
  match({ rideId, from, to }: Request): Matched {
    const before = this.#matched.get(rideId);
    if (before !== undefined) return before;
    const [[driver] = ["nobody"]] = [...this.#places].sort(([, a], [, b]) => km(a, from) - km(b, from));
    this.#places.set(driver, to);
    this.#sentOut++;
    const matched = { rideId, driver, cents: START_CENTS + Math.round(km(from, to) * CENTS_PER_KM) };
    this.#matched.set(rideId, matched);
    return matched;
  }

  /** How often a driver was sent out. */
  get sentOut(): number {
    return this.#sentOut;
  }

  /** How many rides have a driver. */
  get rides(): number {
    return this.#matched.size;
  }
}

function km(one: Place, other: Place): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

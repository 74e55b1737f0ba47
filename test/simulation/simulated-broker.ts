import type { OutgoingMessage, Topology } from "../../core/adapter.ts";
import { type Address, addressName, type WorkAddress } from "../../core/address.ts";
import type { Prng } from "./prng.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** One message where it stands. */
export interface Standing {
  readonly message: OutgoingMessage;
  /** Its position: what comes back stands where it stood. */
  readonly position: number;
  readonly place: Place;
  availableAt: number;
  redeliveries: number;
  holder: Taker | undefined;
}

/** Whoever takes messages from a place. */
export interface Taker {
  readonly room: number;
  take(batch: readonly Standing[]): void;
}

/** A queue of the simulated broker: of work, of a subscription or of dead letters. */
export interface Place {
  readonly name: string;
  readonly address: Address;
  readonly ordered: boolean;
  /** By position. */
  readonly standing: Standing[];
  readonly takers: Taker[];
  /** How many takers have still to give back what others are to have; meanwhile nothing is delivered. */
  handingOver: number;
  scheduled: boolean;
}

/** Who keeps the books over what the broker does. */
export interface BrokerObserver {
  stored(place: Place, message: OutgoingMessage): void;
  removed(place: Place, message: OutgoingMessage): void;
  returned(place: Place, message: OutgoingMessage, counted: boolean): void;
  /** It may be stored, and its sender was not told so, or not in time. */
  uncertain(message: OutgoingMessage): void;
}

/** How the broker is broken on purpose, to see whether the judge notices. */
export type Mutation = "loses-one" | "delivers-after-ack" | "delivers-early" | "swaps-order" | "stores-refused";

/** A durable broker in virtual time. It outlives every process. */
export class SimulatedBroker {
  readonly time: VirtualTime;
  readonly #prng: Prng;
  readonly observer: BrokerObserver;
  readonly #places = new Map<string, Place>();
  readonly #topics = new Map<string, Place[]>();
  readonly #quarantines = new Map<string, string[]>();
  readonly #leases: boolean;
  readonly #mutation: Mutation | undefined;
  #mutated = false;
  #position = 0;

  constructor(
    time: VirtualTime,
    prng: Prng,
    observer: BrokerObserver,
    leases: boolean,
    mutation: Mutation | undefined,
  ) {
    this.time = time;
    this.#leases = leases;
    this.#prng = prng;
    this.observer = observer;
    this.#mutation = mutation;
  }

  get places(): Iterable<Place> {
    return this.#places.values();
  }

  place(address: Address): Place | undefined {
    return this.#places.get(addressName(address));
  }

  declare({ queues, topics, subscriptions }: Topology): void {
    for (const { address, ordered } of queues) this.#add(address, ordered);
    for (const { address } of topics) if (!this.#topics.has(address.name)) this.#topics.set(address.name, []);
    for (const { address, ordered } of subscriptions) {
      const made = this.#add(address, ordered);
      if (made !== undefined) this.#topics.get(address.topic)?.push(made);
    }
  }

  #add(address: Address, ordered: boolean): Place | undefined {
    const name = addressName(address);
    if (this.#places.has(name)) return undefined;
    const place: Place = { name, address, ordered, standing: [], takers: [], handingOver: 0, scheduled: false };
    this.#places.set(name, place);
    if (address.kind === "queue" || address.kind === "subscription") {
      this.#add({ kind: "dead-letters", of: address }, false);
    }
    return place;
  }

  /** The records of a quarantine log. */
  quarantine(of: WorkAddress): string[] {
    const name = addressName(of);
    const records = this.#quarantines.get(name) ?? [];
    this.#quarantines.set(name, records);
    return records;
  }

  /** Stores a message, at every subscription if it is for a topic. */
  store(to: Address, message: OutgoingMessage): void {
    const places = to.kind === "topic" ? this.#topics.get(to.name) : [this.place(to)];
    for (const place of places ?? []) {
      if (place === undefined) throw new Error(`nothing was declared at ${addressName(to)}`);
      this.observer.stored(place, message);
      if (this.#mutates("loses-one", place.address.kind === "queue" && this.#prng.chance(0.2))) continue;
      const early = this.#mutates("delivers-early", message.delayMs > 0);
      const availableAt = this.time.now + (early ? 0 : message.delayMs);
      const position = this.#position++;
      place.standing.push({ message, position, place, availableAt, redeliveries: 0, holder: undefined });
      if (availableAt > this.time.now) this.time.schedule(() => this.stir(place), availableAt - this.time.now);
      this.stir(place);
    }
  }

  #mutates(mutation: Mutation, here: boolean): boolean {
    if (this.#mutation !== mutation || this.#mutated || !here) return false;
    this.#mutated = true;
    return true;
  }

  /** Whether messages that are refused are stored nevertheless. */
  get storesRefused(): boolean {
    return this.#mutation === "stores-refused";
  }

  /** The message is done with. */
  remove(standing: Standing): void {
    const { place, message } = standing;
    this.observer.removed(place, message);
    if (this.#mutates("delivers-after-ack", place.address.kind === "queue")) {
      standing.holder = undefined;
    } else {
      place.standing.splice(place.standing.indexOf(standing), 1);
    }
    this.stir(place);
  }

  /** The message can be delivered again, from where it stood. */
  giveBack(standing: Standing, counted: boolean): void {
    standing.holder = undefined;
    if (counted) standing.redeliveries++;
    this.observer.returned(standing.place, standing.message, counted);
    this.stir(standing.place);
  }

  /** Looks soon for what can be delivered. */
  stir(place: Place): void {
    if (place.scheduled || place.takers.length === 0 || place.handingOver > 0) return;
    place.scheduled = true;
    this.time.schedule(
      () => {
        place.scheduled = false;
        if (place.handingOver === 0) this.#deliver(place);
      },
      this.#prng.between(0, 3),
    );
  }

  /** Where single deliveries can come back, a broker that keeps order delivers nothing of a key that is in flight. */
  #blockedKeys({ ordered, standing }: Place): ReadonlySet<string | undefined> {
    if (!ordered || !this.#leases) return new Set();
    const inFlight = standing.filter(({ holder, message }) => holder !== undefined && message.key !== undefined);
    return new Set(inFlight.map(({ message }) => message.key));
  }

  #deliver(place: Place): void {
    // In order a single consumer is active: the first that came.
    const takers = place.ordered ? place.takers.slice(0, 1) : [...place.takers];
    const blocked = this.#blockedKeys(place);
    const batches = new Map(takers.map((taker) => [taker, [] as Standing[]]));
    for (const standing of place.standing) {
      if (standing.holder !== undefined || standing.availableAt > this.time.now) continue;
      if (blocked.has(standing.message.key)) continue;
      const free = takers.filter((taker) => taker.room > (batches.get(taker)?.length ?? 0));
      if (free.length === 0) break;
      const taker = this.#prng.pick(free);
      standing.holder = taker;
      batches.get(taker)?.push(standing);
    }
    for (const [taker, batch] of batches) {
      if (batch.length === 0) continue;
      if (place.ordered && this.#mutates("swaps-order", batch.length > 3)) batch.reverse();
      taker.take(batch);
    }
  }
}

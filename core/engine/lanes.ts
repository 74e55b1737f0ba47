import { Fifo } from "./fifo.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";

/** What waits for a handler, and which of it may start next. Deliveries that were lost or given back are passed over. */
export interface Lanes {
  push(held: InFlightDelivery): void;
  /** The next that may start; it then occupies its lane, if it has one, until `leave`. */
  take(): InFlightDelivery | undefined;
  /** One that still occupies its lane may start again, before all others. */
  again(held: InFlightDelivery): void;
  /** Frees the lane that one occupies. */
  leave(held: InFlightDelivery): void;
  /** Empties the lanes of what waits; what occupies them stays. */
  drain(): InFlightDelivery[];
}

/** No order: each may start at once. */
export class OpenLanes implements Lanes {
  readonly #waiting = new Fifo<InFlightDelivery>();

  push(held: InFlightDelivery): void {
    this.#waiting.push(held);
  }

  take(): InFlightDelivery | undefined {
    return takeKept(this.#waiting);
  }

  again(held: InFlightDelivery): void {
    this.#waiting.putBack([held]);
  }

  leave(): void {}

  drain(): InFlightDelivery[] {
    const drained = [...this.#waiting];
    this.#waiting.clear();
    return drained;
  }
}

interface Lane {
  readonly key: string;
  readonly waiting: Fifo<InFlightDelivery>;
  occupant: InFlightDelivery | undefined;
  /** Whether it stands among the free ones: what waits there may have been lost, all of it. */
  ready: boolean;
}

/**
 * A lane per key: one at a time of each key, in the order of arrival, and other keys pass. A lane stays occupied by a
 * delivery that was lost while its handler runs, so that its redelivery does not run beside it. Deliveries without a key
 * have no order to keep.
 */
export class KeyedLanes implements Lanes {
  readonly #lanes = new Map<string, Lane>();
  /** Free lanes with something waiting, in the order they became so. */
  readonly #ready = new Fifo<Lane>();
  readonly #keyless = new Fifo<InFlightDelivery>();
  readonly #again = new Fifo<InFlightDelivery>();

  push(held: InFlightDelivery): void {
    const { key } = held.incoming;
    if (key === undefined) {
      this.#keyless.push(held);
      return;
    }
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { key, waiting: new Fifo(), occupant: undefined, ready: false };
      this.#lanes.set(key, lane);
    }
    lane.waiting.push(held);
    if (lane.occupant === undefined) this.#free(lane);
  }

  #free(lane: Lane): void {
    if (lane.ready) return;
    lane.ready = true;
    this.#ready.push(lane);
  }

  take(): InFlightDelivery | undefined {
    const again = takeKept(this.#again);
    if (again !== undefined) return again;
    for (let lane = this.#ready.shift(); lane !== undefined; lane = this.#ready.shift()) {
      const held = this.#occupy(lane);
      if (held !== undefined) return held;
    }
    return takeKept(this.#keyless);
  }

  #occupy(lane: Lane): InFlightDelivery | undefined {
    const held = takeKept(lane.waiting);
    lane.ready = false;
    lane.occupant = held;
    if (held === undefined) this.#lanes.delete(lane.key);
    return held;
  }

  again(held: InFlightDelivery): void {
    this.#again.push(held);
  }

  leave(held: InFlightDelivery): void {
    const { key } = held.incoming;
    const lane = key === undefined ? undefined : this.#lanes.get(key);
    if (lane === undefined || lane.occupant !== held) return;
    lane.occupant = undefined;
    if (lane.waiting.size > 0) this.#free(lane);
    else this.#lanes.delete(lane.key);
  }

  drain(): InFlightDelivery[] {
    const drained = [...this.#again, ...this.#keyless];
    this.#again.clear();
    this.#keyless.clear();
    this.#ready.clear();
    for (const lane of this.#lanes.values()) {
      drained.push(...lane.waiting);
      lane.waiting.clear();
      lane.ready = false;
      if (lane.occupant === undefined) this.#lanes.delete(lane.key);
    }
    for (const held of drained) this.leave(held);
    return drained.sort((one, other) => one.sequence - other.sequence);
  }
}

function takeKept(waiting: Fifo<InFlightDelivery>): InFlightDelivery | undefined {
  dropGone(waiting);
  return waiting.shift();
}

function dropGone(waiting: Fifo<InFlightDelivery>): void {
  for (let first = waiting.peek(); first !== undefined && first.state !== "waiting"; first = waiting.peek()) {
    waiting.shift();
  }
}

import { Fifo } from "../fifo.ts";
import type { InFlightDelivery } from "./in-flight.ts";

/** What waits for a handler, and which of it may start next. Deliveries that were lost or given back are passed over. */
export interface DeliveryQueue {
  push(held: InFlightDelivery): void;
  /** The next that may start; it then occupies its queue, if it has one, until `leave`. */
  take(): InFlightDelivery | undefined;
  /** One that still occupies its queue may start again, before all others. */
  again(held: InFlightDelivery): void;
  /** Frees the queue that one occupies. */
  leave(held: InFlightDelivery): void;
  /** Empties the queues of what waits; what occupies them stays. */
  drain(): InFlightDelivery[];
}

/** No order: each may start at once. */
export class UnorderedQueue implements DeliveryQueue {
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

interface KeyQueue {
  readonly key: string;
  readonly waiting: Fifo<InFlightDelivery>;
  occupant: InFlightDelivery | undefined;
  /** Whether it stands among the free ones: what waits there may have been lost, all of it. */
  ready: boolean;
}

/**
 * A queue per key: one at a time of each key, in the order of arrival, and other keys pass. A queue stays occupied by a
 * delivery that was lost while its handler runs, so that its redelivery does not run beside it. Deliveries without a key
 * have no order to keep.
 */
export class KeyQueues implements DeliveryQueue {
  readonly #queues = new Map<string, KeyQueue>();
  /** Free queues with something waiting, in the order they became so. */
  readonly #ready = new Fifo<KeyQueue>();
  readonly #keyless = new Fifo<InFlightDelivery>();
  readonly #again = new Fifo<InFlightDelivery>();

  push(held: InFlightDelivery): void {
    const { key } = held.incoming;
    if (key === undefined) {
      this.#keyless.push(held);
      return;
    }
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = { key, waiting: new Fifo(), occupant: undefined, ready: false };
      this.#queues.set(key, queue);
    }
    queue.waiting.push(held);
    if (queue.occupant === undefined) this.#free(queue);
  }

  #free(queue: KeyQueue): void {
    if (queue.ready) return;
    queue.ready = true;
    this.#ready.push(queue);
  }

  take(): InFlightDelivery | undefined {
    const again = takeKept(this.#again);
    if (again !== undefined) return again;
    for (let queue = this.#ready.shift(); queue !== undefined; queue = this.#ready.shift()) {
      const held = this.#occupy(queue);
      if (held !== undefined) return held;
    }
    return takeKept(this.#keyless);
  }

  #occupy(queue: KeyQueue): InFlightDelivery | undefined {
    const held = takeKept(queue.waiting);
    queue.ready = false;
    queue.occupant = held;
    if (held === undefined) this.#queues.delete(queue.key);
    return held;
  }

  again(held: InFlightDelivery): void {
    this.#again.push(held);
  }

  leave(held: InFlightDelivery): void {
    const { key } = held.incoming;
    const queue = key === undefined ? undefined : this.#queues.get(key);
    if (queue === undefined || queue.occupant !== held) return;
    queue.occupant = undefined;
    if (queue.waiting.size > 0) this.#free(queue);
    else this.#queues.delete(queue.key);
  }

  drain(): InFlightDelivery[] {
    const drained = [...this.#again, ...this.#keyless];
    this.#again.clear();
    this.#keyless.clear();
    this.#ready.clear();
    for (const queue of this.#queues.values()) {
      drained.push(...queue.waiting);
      queue.waiting.clear();
      queue.ready = false;
      if (queue.occupant === undefined) this.#queues.delete(queue.key);
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

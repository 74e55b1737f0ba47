import { Fifo } from "../fifo.ts";
import type { InFlightDelivery } from "./in-flight.ts";

/** Deliveries that wait for a handler, and the order in which they start. Lost and requeued ones are skipped. */
export interface DeliveryQueue {
  push(delivery: InFlightDelivery): void;
  /** Takes the next one that may start. It occupies the queue of its key until `leave`. */
  take(): InFlightDelivery | undefined;
  /** Puts back one that still occupies the queue of its key; it starts before all others. */
  again(delivery: InFlightDelivery): void;
  /** Frees the queue of its key. */
  leave(delivery: InFlightDelivery): void;
  /** Takes out all that wait. Occupants stay. */
  drain(): InFlightDelivery[];
}

/** A queue without order: each delivery may start at once. */
export class UnorderedQueue implements DeliveryQueue {
  readonly #waiting = new Fifo<InFlightDelivery>();

  push(delivery: InFlightDelivery): void {
    this.#waiting.push(delivery);
  }

  take(): InFlightDelivery | undefined {
    return takeWaiting(this.#waiting);
  }

  again(delivery: InFlightDelivery): void {
    this.#waiting.putBack([delivery]);
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
  /** Whether it is in the list of ready queues. All that wait in it may be lost already. */
  ready: boolean;
}

/**
 * A queue per key: each key runs one delivery at a time, in the order of arrival. Other keys, and deliveries without a
 * key, pass. A delivery that is lost while its handler runs still occupies its queue, so its redelivery does not run
 * beside it.
 */
export class KeyQueues implements DeliveryQueue {
  readonly #queues = new Map<string, KeyQueue>();
  /** Free queues with waiting deliveries, in the order in which they became ready. */
  readonly #ready = new Fifo<KeyQueue>();
  readonly #keyless = new Fifo<InFlightDelivery>();
  readonly #again = new Fifo<InFlightDelivery>();

  push(delivery: InFlightDelivery): void {
    const { key } = delivery.incoming;
    if (key === undefined) {
      this.#keyless.push(delivery);
      return;
    }
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = { key, waiting: new Fifo(), occupant: undefined, ready: false };
      this.#queues.set(key, queue);
    }
    queue.waiting.push(delivery);
    if (queue.occupant === undefined) this.#free(queue);
  }

  #free(queue: KeyQueue): void {
    if (queue.ready) return;
    queue.ready = true;
    this.#ready.push(queue);
  }

  take(): InFlightDelivery | undefined {
    const again = takeWaiting(this.#again);
    if (again !== undefined) return again;
    for (let queue = this.#ready.shift(); queue !== undefined; queue = this.#ready.shift()) {
      const delivery = this.#occupy(queue);
      if (delivery !== undefined) return delivery;
    }
    return takeWaiting(this.#keyless);
  }

  #occupy(queue: KeyQueue): InFlightDelivery | undefined {
    const delivery = takeWaiting(queue.waiting);
    queue.ready = false;
    queue.occupant = delivery;
    if (delivery === undefined) this.#queues.delete(queue.key);
    return delivery;
  }

  again(delivery: InFlightDelivery): void {
    this.#again.push(delivery);
  }

  leave(delivery: InFlightDelivery): void {
    const { key } = delivery.incoming;
    const queue = key === undefined ? undefined : this.#queues.get(key);
    if (queue === undefined || queue.occupant !== delivery) return;
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
    for (const delivery of drained) this.leave(delivery);
    return drained.sort((one, other) => one.sequence - other.sequence);
  }
}

/** Skips deliveries that were lost or requeued. */
function takeWaiting(waiting: Fifo<InFlightDelivery>): InFlightDelivery | undefined {
  let first = waiting.shift();
  while (first !== undefined && first.state !== "waiting") first = waiting.shift();
  return first;
}

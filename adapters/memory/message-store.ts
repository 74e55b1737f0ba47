import { Fifo } from "../../core/fifo.ts";
import type { Clock, OutgoingMessage, Timer } from "../../core/index.ts";

/** A message as it stands on a queue of the process. */
export interface StoredMessage {
  readonly message: OutgoingMessage;
  /** Place in the queue, kept over redeliveries. */
  readonly sequence: number;
  redeliveries: number;
}

/** The messages of one priority: gives its first quickly, and takes a message back at the place it had. */
class Shelf {
  readonly #fresh = new Fifo<StoredMessage>();
  /** In order. What was taken once stood before everything that was not. */
  readonly #returned = new Fifo<StoredMessage>();

  push(message: StoredMessage): void {
    this.#fresh.push(message);
  }

  shift(): StoredMessage | undefined {
    return this.#returned.shift() ?? this.#fresh.shift();
  }

  putBack(message: StoredMessage): void {
    this.#returned.insert(message, (other) => other.sequence < message.sequence);
  }

  *[Symbol.iterator](): Iterator<StoredMessage> {
    yield* this.#returned;
    yield* this.#fresh;
  }
}

interface Delayed {
  readonly message: OutgoingMessage;
  readonly due: number;
}

/** What stands on one queue: ready, by priority and then by arrival, and delayed. */
export class MessageStore {
  readonly #clock: Clock;
  readonly #shelves: Shelf[] = [];
  readonly #onReady: () => void;
  /** The soonest last. */
  #delayed: Delayed[] = [];
  #timer: Timer | undefined;
  #awake = false;
  #sequence = 0;
  #size = 0;

  /** `onReady` is called when a delay has ended. */
  constructor(clock: Clock, onReady: () => void) {
    this.#clock = clock;
    this.#onReady = onReady;
  }

  /** Messages that could be delivered now. */
  get size(): number {
    return this.#size;
  }

  add(message: OutgoingMessage): void {
    if (message.delayMs === 0) {
      this.#push(message);
      return;
    }
    const delayed = { message, due: this.#clock.monotonic() + message.delayMs };
    let at = this.#delayed.length;
    while (at > 0 && (this.#delayed[at - 1] as Delayed).due <= delayed.due) at--;
    this.#delayed.splice(at, 0, delayed);
    if (at === this.#delayed.length - 1) this.#arm();
  }

  /** Keeps a timer for what is delayed; while asleep nothing keeps the process alive. */
  wake(): void {
    this.#awake = true;
    this.#arm();
  }

  sleep(): void {
    this.#awake = false;
    this.#disarm();
  }

  take(): StoredMessage | undefined {
    for (let priority = this.#shelves.length - 1; priority >= 0; priority--) {
      const message = this.#shelves[priority]?.shift();
      if (message === undefined) continue;
      this.#size--;
      return message;
    }
    return undefined;
  }

  /** What could be delivered now, as it would be. */
  ready(): StoredMessage[] {
    return this.#shelves.toReversed().flatMap((shelf) => [...shelf]);
  }

  putBack(stored: StoredMessage): void {
    this.#shelf(stored.message.priority).putBack(stored);
    this.#size++;
  }

  #push(message: OutgoingMessage): void {
    const stored = { message, sequence: this.#sequence++, redeliveries: 0 };
    this.#shelf(message.priority).push(stored);
    this.#size++;
  }

  #shelf(priority: number): Shelf {
    for (let next = this.#shelves.length; next <= priority; next++) this.#shelves.push(new Shelf());
    return this.#shelves[priority] as Shelf;
  }

  #arm(): void {
    this.#disarm();
    const soonest = this.#delayed.at(-1);
    if (!this.#awake || soonest === undefined) return;
    this.#timer = this.#clock.schedule(() => this.#ripen(), Math.max(soonest.due - this.#clock.monotonic(), 0));
  }

  #disarm(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  #ripen(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (let next = this.#delayed.at(-1); next !== undefined && next.due <= now; next = this.#delayed.at(-1)) {
      this.#delayed.pop();
      this.#push(next.message);
    }
    this.#arm();
    this.#onReady();
  }
}

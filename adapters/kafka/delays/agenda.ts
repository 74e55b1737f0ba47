import type { Clock, Timer } from "../../../core/clock.ts";

/** Something to be done at a time; `at` is on the monotonic clock and does not change while it is in an agenda. */
export interface Appointment {
  at: number;
}

/** Calls with what has come due, the earliest first; one timer, however much there is. */
export class Agenda<Item extends Appointment> {
  readonly #clock: Clock;
  readonly #due: (items: readonly Item[]) => void;
  /** A binary heap, the earliest first. */
  #heap: Item[] = [];
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, due: (items: readonly Item[]) => void) {
    this.#clock = clock;
    this.#due = due;
  }

  get size(): number {
    return this.#heap.length;
  }

  /** Takes items in. {@link arm} has to follow. */
  add(item: Item): void {
    const heap = this.#heap;
    let index = heap.push(item) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((heap[parent] as Item).at <= item.at) break;
      heap[index] = heap[parent] as Item;
      index = parent;
    }
    heap[index] = item;
  }

  /** Sets the timer for the earliest. */
  arm(): void {
    const at = this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
    if (at === this.#timerAt) return;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timerAt = at;
    const ms = Math.max(0, at - this.#clock.monotonic());
    this.#timer = at === Number.POSITIVE_INFINITY ? undefined : this.#clock.schedule(() => this.#fire(), ms);
  }

  /** Takes out what is not to stay. */
  retain(stays: (item: Item) => boolean): void {
    const staying = this.#heap.filter(stays);
    this.#heap = [];
    for (const item of staying) this.add(item);
    this.arm();
  }

  #fire(): void {
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonic();
    const items: Item[] = [];
    while (this.#heap.length > 0 && (this.#heap[0] as Item).at <= now) items.push(this.#take());
    if (items.length > 0) this.#due(items);
    this.arm();
  }

  #take(): Item {
    const heap = this.#heap;
    const first = heap[0] as Item;
    const last = heap.pop() as Item;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as Item).at < (heap[child] as Item).at) child++;
      if ((heap[child] as Item).at >= last.at) break;
      heap[index] = heap[child] as Item;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

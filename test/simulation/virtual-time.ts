import type { Clock } from "../../core/clock.ts";

const EPOCH = Date.UTC(2030, 0, 1);

interface Happening {
  readonly at: number;
  readonly order: number;
  run: (() => void) | undefined;
}

/** Time that moves only from one thing that is to happen to the next, and only when all promises have had their say. */
export class VirtualTime {
  #now = 0;
  #order = 0;
  /** A binary heap: the soonest first, of equal ones the one scheduled first. */
  readonly #heap: Happening[] = [];

  get now(): number {
    return this.#now;
  }

  schedule(run: () => void, ms: number): Happening {
    const happening = { at: this.#now + Math.max(ms, 0), order: this.#order++, run };
    const heap = this.#heap;
    let index = heap.push(happening) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(happening, heap[parent] as Happening)) break;
      heap[index] = heap[parent] as Happening;
      index = parent;
    }
    heap[index] = happening;
    return happening;
  }

  /** Lets time pass until the condition holds. Resolves with whether it did by `limit`, in milliseconds of this time. */
  async until(condition: () => boolean, limit: number): Promise<boolean> {
    for (;;) {
      // An immediate comes after every promise job and every job that those added.
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (condition()) return true;
      const next = this.#take();
      if (next === undefined || next.at > limit) return false;
      this.#now = next.at;
      next.run?.();
    }
  }

  #take(): Happening | undefined {
    for (;;) {
      const first = this.#heap[0];
      const last = this.#heap.pop();
      if (first === undefined || last === undefined) return undefined;
      if (this.#heap.length > 0) this.#sink(last);
      if (first.run !== undefined) return first;
    }
  }

  #sink(happening: Happening): void {
    const heap = this.#heap;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Happening, heap[child] as Happening)) child++;
      if (!before(heap[child] as Happening, happening)) break;
      heap[index] = heap[child] as Happening;
      index = child;
    }
    heap[index] = happening;
  }
}

function before(one: Happening, other: Happening): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}

/** The clock of one process. When the process is killed nothing fires any more. */
export class ProcessClock implements Clock {
  readonly #time: VirtualTime;
  readonly #timers = new Set<Happening>();
  #dead = false;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  now(): number {
    return EPOCH + Math.floor(this.#time.now);
  }

  monotonic(): number {
    return this.#time.now;
  }

  schedule(run: () => void, ms: number): Happening {
    const fire = (): void => {
      this.#timers.delete(timer);
      run();
    };
    const timer = this.#time.schedule(fire, ms);
    if (this.#dead) timer.run = undefined;
    else this.#timers.add(timer);
    return timer;
  }

  cancel(timer: object): void {
    (timer as Happening).run = undefined;
    this.#timers.delete(timer as Happening);
  }

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  kill(): void {
    this.#dead = true;
    for (const timer of this.#timers) timer.run = undefined;
    this.#timers.clear();
  }
}

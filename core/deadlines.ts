import type { Clock, Timer } from "./clock.ts";

/** Something with a deadline. The fields are the list's own; see {@link Deadlines}. */
export interface Expiring {
  deadline: Deadline | undefined;
  expire(): void;
}

/** One deadline set, as {@link Deadlines} keeps it. */
export interface Deadline {
  readonly item: Expiring;
  readonly due: number;
  readonly list: DeadlineList;
  previous: Deadline | undefined;
  next: Deadline | undefined;
}

interface DeadlineList {
  readonly ms: number;
  first: Deadline | undefined;
  last: Deadline | undefined;
  timer: Timer | undefined;
}

/**
 * Many deadlines on few timers. Those of one duration fall due in the order they were set, so a list per duration with
 * one timer for its first is enough, and setting and lifting cost no timer. It is how Node keeps its own timers
 * (lib/internal/timers.js); here over a clock that can be simulated.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #lists = new Map<number, DeadlineList>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  set(item: Expiring, ms: number): void {
    let list = this.#lists.get(ms);
    if (list === undefined) {
      list = { ms, first: undefined, last: undefined, timer: undefined };
      this.#lists.set(ms, list);
    }
    const deadline: Deadline = { item, due: this.#clock.monotonic() + ms, list, previous: list.last, next: undefined };
    if (list.last === undefined) list.first = deadline;
    else list.last.next = deadline;
    list.last = deadline;
    item.deadline = deadline;
    if (list.timer === undefined) this.#arm(list, ms);
  }

  /** Lifts the item's deadline, if it has one. */
  lift(item: Expiring): void {
    const deadline = item.deadline;
    if (deadline === undefined) return;
    item.deadline = undefined;
    const { list, previous, next } = deadline;
    if (previous === undefined) list.first = next;
    else previous.next = next;
    if (next === undefined) list.last = previous;
    else next.previous = previous;
  }

  /** Everything that has a deadline, the soonest of each duration first. */
  items(): readonly Expiring[] {
    const items: Expiring[] = [];
    for (const list of this.#lists.values()) {
      for (let entry = list.first; entry !== undefined; entry = entry.next) items.push(entry.item);
    }
    return items;
  }

  /** Lifts all deadlines and their timers. */
  clear(): void {
    for (const list of this.#lists.values()) {
      if (list.timer !== undefined) this.#clock.cancel(list.timer);
      for (let entry = list.first; entry !== undefined; entry = entry.next) entry.item.deadline = undefined;
      list.first = undefined;
      list.last = undefined;
    }
    this.#lists.clear();
  }

  #arm(list: DeadlineList, ms: number): void {
    list.timer = this.#clock.schedule(() => this.#fire(list), ms);
  }

  #fire(list: DeadlineList): void {
    const now = this.#clock.monotonic();
    // The timer counts as armed meanwhile, so that a deadline set by an expiry does not arm a later one.
    while (list.first !== undefined && list.first.due <= now) {
      const { item } = list.first;
      this.lift(item);
      item.expire();
    }
    list.timer = undefined;
    if (list.first !== undefined) this.#arm(list, list.first.due - now);
    else if (this.#lists.get(list.ms) === list) this.#lists.delete(list.ms);
  }
}

import type { Clock, Timer } from "./clock.ts";

/** An item with a deadline. {@link Deadlines} sets the field and calls `expire`. */
export interface Expiring {
  deadline: Deadline | undefined;
  expire(): void;
}

/** One deadline in the list of {@link Deadlines}. */
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
 * Keeps many deadlines on few timers, as Node does (lib/internal/timers.js), but with a clock that can be simulated.
 * Deadlines of one duration expire in the order in which they are set. So each duration has a list, with one timer for its
 * first deadline.
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

  /** Removes the item's deadline, if it has one. */
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

  /** Removes all deadlines and cancels their timers. */
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
    // `list.timer` stays set meanwhile, so that a deadline set by `expire` arms no second timer.
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

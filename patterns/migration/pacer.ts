import type { Clock, Timer } from "../../core/clock.ts";

/** A timer that fires late is made up for by so much, and no more: what nobody used is not saved up. */
const MOST_LATE_MS = 50;

/** Says when the next may pass. */
export interface Pace {
  /** Whether one may pass now; if not, whoever asked is woken when it may. */
  pass(): boolean;
  /** Undefined lets everything pass. */
  setRate(perSecond: number | undefined): void;
  /** Wakes nobody any more. */
  stop(): void;
}

/** One rate for several, who pass in the order in which they ask. */
export class SharedPace {
  readonly #pacer: Pacer;
  #waiting = new Set<() => void>();

  constructor(clock: Clock, perSecond: number | undefined) {
    this.#pacer = new Pacer(clock, perSecond, () => {
      const waiting = this.#waiting;
      this.#waiting = new Set();
      for (const wake of waiting) wake();
    });
  }

  /** The pace of one of them. */
  of(wake: () => void): Pace {
    return {
      pass: () => {
        if (this.#pacer.pass()) return true;
        this.#waiting.add(wake);
        return false;
      },
      setRate: (perSecond) => this.#pacer.setRate(perSecond),
      stop: () => void this.#waiting.delete(wake),
    };
  }
}

/** Lets so many pass per second, evenly. */
export class Pacer implements Pace {
  readonly #clock: Clock;
  readonly #wake: () => void;
  #everyMs = 0;
  #next = 0;
  #timer: Timer | undefined;

  /** `wake` is called when the next may pass. */
  constructor(clock: Clock, perSecond: number | undefined, wake: () => void) {
    this.#clock = clock;
    this.#wake = wake;
    this.setRate(perSecond);
  }

  /** Undefined lets everything pass. */
  setRate(perSecond: number | undefined): void {
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
    this.#next = 0;
    this.stop();
  }

  /** Whether one may pass now; if not, `wake` is called when it may. */
  pass(): boolean {
    if (this.#everyMs === 0) return true;
    const now = this.#clock.monotonic();
    const at = Math.max(this.#next, now - MOST_LATE_MS);
    if (at > now) {
      this.#timer ??= this.#clock.schedule(() => {
        this.#timer = undefined;
        this.#wake();
      }, at - now);
      return false;
    }
    this.#next = at + this.#everyMs;
    return true;
  }

  /** Wakes nobody any more. */
  stop(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

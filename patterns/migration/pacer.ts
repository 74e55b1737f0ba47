import type { Clock, Timer } from "../../core/clock.ts";

/** The most that a late timer is caught up. Idle time is not saved up. */
const MOST_LATE_MS = 50;

/** Limits a rate. */
export interface Pace {
  /** Whether the next message may pass now; if not, the caller is woken when it may. */
  pass(): boolean;
  /** Sets the rate; undefined for no limit. */
  setRate(perSecond: number | undefined): void;
  /** Cancels the wake-up. */
  stop(): void;
}

/** One rate for several callers, in the order of their calls. */
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

  /** The pace of one caller. */
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

/** Spaces messages evenly. */
export class Pacer implements Pace {
  readonly #clock: Clock;
  readonly #wake: () => void;
  #everyMs = 0;
  #next = 0;
  #timer: Timer | undefined;

  /** Calls `wake` when the next message may pass. */
  constructor(clock: Clock, perSecond: number | undefined, wake: () => void) {
    this.#clock = clock;
    this.#wake = wake;
    this.setRate(perSecond);
  }

  setRate(perSecond: number | undefined): void {
    this.#everyMs = perSecond === undefined ? 0 : 1_000 / perSecond;
    this.#next = 0;
    this.stop();
  }

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

  stop(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }
}

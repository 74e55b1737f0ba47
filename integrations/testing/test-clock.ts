import { performance } from "node:perf_hooks";
import * as timers from "node:timers";
import { LONGEST_MS } from "../../core/checks.ts";
import { type Clock, systemClock, type Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";

// Imported early, and from Node's modules: a test runner's fake timers, which replace the global ones, must not stop the kit.

const { clearTimeout, setImmediate, setTimeout } = timers;
/** The latest time of a Date, without the longest delay: what is sent then is due in time. */
const LATEST = 8.64e15 - LONGEST_MS;
const monotonic = performance.now.bind(performance);

/** Milliseconds of the system's monotonic clock. */
export function realNow(): number {
  return monotonic();
}

/** Runs everything that is ready: promises and I/O. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Waits in real time. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Settles as the work does, or resolves with `late` after `ms` milliseconds of real time. */
export function inRealTime<Result>(work: PromiseLike<Result>, ms: number, late: Result): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(late), Math.max(ms, 0));
    work.then(
      (result) => {
        clearTimeout(timer);
        resolve(result);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/** After this many turns without a timer, the work does not depend on this clock: yields the processor. */
const PATIENT_AFTER = 50;
const PAUSE_MS = 5;

/** The clock of a kit's brokers; see {@link TestKit.clock}. */
export interface TestClock extends Clock {
  /** Whether time moves only by calls. False with an adapter. */
  readonly virtual: boolean;
  /**
   * Moves time forward. Timers fire at their time, in order, each followed by all promises that it settles. Does not wait for
   * handlers with real I/O. Resolves when the time is reached. Rejects with `unsupported` if the clock is not virtual, and
   * with `invalid` for anything but milliseconds from 0 up.
   */
  advance(ms: number): Promise<void>;
  /**
   * Moves time from timer to timer until the promise is settled, and settles as it does. For work that waits for the
   * brokers' time, such as a replay of dead letters, or a stop behind a handler that hangs. A real clock only waits.
   */
  passUntil<Result>(work: Promise<Result>): Promise<Result>;
}

interface VirtualTimer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** A clock that moves only by calls. */
export class VirtualClock implements TestClock {
  readonly virtual = true;
  readonly #startedAt: number;
  /** Sorted with the next one last; timers of equal times in the order of their calls. */
  readonly #timers: VirtualTimer[] = [];
  #elapsed = 0;
  #order = 0;
  #continuing = 0;

  /** `startAt` in milliseconds since 1970. */
  constructor(startAt: number) {
    this.#startedAt = startAt;
  }

  now(): number {
    return this.#startedAt + Math.floor(this.#elapsed);
  }

  monotonic(): number {
    return this.#elapsed;
  }

  schedule(run: () => void, ms: number): Timer {
    const timer = { at: this.#elapsed + Math.max(ms, 0), order: this.#order++, run };
    let from = 0;
    let to = this.#timers.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#timers[middle] as VirtualTimer).at > timer.at) from = middle + 1;
      else to = middle;
    }
    this.#timers.splice(from, 0, timer);
    return timer;
  }

  cancel(timer: Timer): void {
    const at = this.#timers.indexOf(timer as VirtualTimer);
    if (at >= 0) this.#timers.splice(at, 1);
  }

  nextTurn(run: () => void): void {
    this.#continuing++;
    setImmediate(() => {
      this.#continuing--;
      run();
    });
  }

  /** As {@link turn}, until no `nextTurn` is pending. */
  async #wholeTurn(): Promise<void> {
    do await turn();
    while (this.#continuing > 0);
  }

  /** Runs the next timer, unless it is due after `until` in monotonic milliseconds. Returns whether there was one. */
  step(until = Number.POSITIVE_INFINITY): boolean {
    const next = this.#timers.at(-1);
    if (next === undefined || next.at > until) return false;
    this.#timers.pop();
    this.#elapsed = Math.max(this.#elapsed, next.at);
    next.run();
    return true;
  }

  async advance(ms: number): Promise<void> {
    if (!Number.isFinite(ms) || ms < 0) {
      throw new MessagingError("invalid", `clock.advance(ms) takes milliseconds from 0 up, not ${String(ms)}`);
    }
    const until = this.#elapsed + ms;
    if (this.#startedAt + until > LATEST) {
      throw new MessagingError("invalid", `clock.advance(${ms}) would leave the times that a Date has`);
    }
    await this.#wholeTurn();
    while (this.step(until)) await this.#wholeTurn();
    this.#elapsed = Math.max(this.#elapsed, until);
  }

  async passUntil<Result>(work: Promise<Result>): Promise<Result> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    work.then(settle, settle);
    for (let idle = 0; ; idle++) {
      await (idle < PATIENT_AFTER ? this.#wholeTurn() : pause(PAUSE_MS));
      if (settled) return work;
      if (this.step()) idle = 0;
    }
  }
}

/** The system clock, for kits with an adapter. */
export function realClock(broker: string): TestClock {
  return {
    ...systemClock(),
    virtual: false,
    passUntil: (work) => work,
    async advance() {
      throw new MessagingError(
        "unsupported",
        `clock.advance(): the time of ${broker} cannot be moved. Use short delays in this test, or run it only in process, as with test.runIf(kit.clock.virtual)`,
      );
    },
  };
}

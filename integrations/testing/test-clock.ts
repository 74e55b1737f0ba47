import { performance } from "node:perf_hooks";
import * as timers from "node:timers";
import { type Clock, systemClock, type Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";

// Taken when the module is loaded: a runner's fake timers, which replace the global ones, must not stop the kit. From the
// modules of Node, since a runner may have replaced the global ones before this one is loaded.

const { setImmediate, setTimeout } = timers;
const monotonic = performance.now.bind(performance);

/** Milliseconds of the machine's own monotonic clock. */
export function realNow(): number {
  return monotonic();
}

/** Lets everything run that is ready: all promises, and what I/O has brought. */
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

/** With nothing due for so many looks, what is waited for is not of this clock, and the processor is left to others. */
const PATIENT_AFTER = 50;
const PAUSE_MS = 5;

/** The clock that the brokers of a kit run on; see {@link TestKit.clock}. */
export interface TestClock extends Clock {
  /** Whether time moves only when it is told to. False on a broker of its own, where it is the machine's. */
  readonly virtual: boolean;
  /**
   * Moves time forward. Whatever falls due on the way happens at its own time, in order, each time followed by all that
   * promises make of it; handlers that wait for real I/O are not waited for. Resolves when the time is there. Rejects with
   * `unsupported` where the clock is not virtual, and with `invalid` for what is no number of milliseconds from 0 up.
   */
  advance(ms: number): Promise<void>;
  /**
   * Lets time pass, from one thing that is due to the next, until the promise is settled, and settles as it does: for what
   * waits for the brokers' time, such as a replay of dead letters, or a stop behind a handler that hangs. Where the clock is
   * not virtual it only waits.
   */
  passUntil<Result>(work: Promise<Result>): Promise<Result>;
}

interface VirtualTimer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** Time that moves only when it is told to. */
export class VirtualClock implements TestClock {
  readonly virtual = true;
  readonly #startedAt: number;
  /** The soonest last; of equal ones, the one that was set first. */
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

  /** As {@link turn}, with all that goes on after a long one. */
  async #wholeTurn(): Promise<void> {
    do await turn();
    while (this.#continuing > 0);
  }

  /** Goes to the next timer, unless it is later than `until` in monotonic time, and runs it. Returns whether there was one. */
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
    for (let inVain = 0; ; inVain++) {
      await (inVain < PATIENT_AFTER ? this.#wholeTurn() : pause(PAUSE_MS));
      if (settled) return work;
      if (this.step()) inVain = 0;
    }
  }
}

/** The machine's clock, for brokers of their own. */
export function realClock(broker: string): TestClock {
  return {
    ...systemClock(),
    virtual: false,
    passUntil: (work) => work,
    async advance() {
      throw new MessagingError(
        "unsupported",
        `clock.advance(): the time of ${broker} cannot be moved. Give this test short delays, or run it in process alone: test.runIf(kit.clock.virtual) or the like`,
      );
    },
  };
}

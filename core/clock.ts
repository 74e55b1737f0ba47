import { randomFillSync } from "node:crypto";
import * as timers from "node:timers";

// Taken when the module is loaded: fake timers of test runners, which replace the global one, must not stop the engine.
const { setImmediate } = timers;

/** A timer; see {@link Clock.cancel}. */
export type Timer = object;

/** A source of time. Simulations replace it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds since a fixed moment, for measuring durations; never goes back. */
  monotonic(): number;
  /** Calls `run` once after `ms` milliseconds; never earlier. */
  schedule(run: () => void, ms: number): Timer;
  /** Cancels a timer. Does nothing for one that has fired or was cancelled. */
  cancel(timer: Timer): void;
  /** Whether `monotonic` advances by itself, so that it measures long work. Default false: long work is measured by its calls. */
  readonly isRealTime?: boolean;
  /**
   * Calls `run` once when the event loop has turned: long work lets timers and I/O run. A
   * virtual clock that must not move meanwhile knows by it. Default: `setImmediate`.
   */
  nextTurn?(run: () => void): void;
}

/** A source of randomness. Simulations use a seeded one. */
export interface Random {
  /** A number from 0 up to, not including, 1. */
  fraction(): number;
  /** Fresh random bytes. A later call may reuse the array. */
  bytes(count: number): Uint8Array;
}

/** The longest wait of `setTimeout`; Node fires longer ones at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** The machine's clock. Timers use the monotonic clock, so that corrections of the wall clock do not affect them. */
export function systemClock(): Clock {
  return {
    isRealTime: true,
    now: Date.now,
    monotonic: () => performance.now(),
    schedule(run, ms) {
      const timer: { handle: NodeJS.Timeout | undefined } = { handle: undefined };
      const due = performance.now() + ms;
      const wait = (): void => {
        const left = due - performance.now();
        if (left > 0) timer.handle = setTimeout(wait, Math.min(left, LONGEST_TIMEOUT_MS));
        else run();
      };
      timer.handle = setTimeout(wait, Math.min(Math.max(ms, 0), LONGEST_TIMEOUT_MS));
      return timer;
    },
    cancel(timer) {
      clearTimeout((timer as { handle: NodeJS.Timeout | undefined }).handle);
    },
  };
}

const POOL_BYTES = 4096;

/** Randomness from the operating system, read in pools so that an id needs no system call. */
export function systemRandom(): Random {
  const pool = new Uint8Array(POOL_BYTES);
  let used = POOL_BYTES;
  return {
    fraction: Math.random,
    bytes(count) {
      if (used + count > POOL_BYTES) {
        randomFillSync(pool);
        used = 0;
      }
      used += count;
      return pool.subarray(used - count, used);
    },
  };
}

/**
 * Checks a given randomness. If it gives no number from 0 up to 1, or not the requested bytes, the machine's randomness
 * replaces the answer: a wait of NaN milliseconds never ends. `wrong` gets the first wrong answer.
 */
export function checkedRandom(given: Random, wrong: (what: string) => void): Random {
  const usual = systemRandom();
  let isReported = false;
  const report = (what: string): void => {
    if (!isReported) wrong(what);
    isReported = true;
  };
  return {
    fraction() {
      try {
        const fraction: unknown = given.fraction();
        if (typeof fraction === "number" && fraction >= 0 && fraction < 1) return fraction;
        report(`fraction() returned ${typeof fraction === "number" ? fraction : `a value of type ${typeof fraction}`}`);
      } catch {
        report("fraction() threw");
      }
      return usual.fraction();
    },
    bytes(count) {
      try {
        const bytes: unknown = given.bytes(count);
        if (bytes instanceof Uint8Array && bytes.length === count) return bytes;
        report(`bytes(${count}) did not return a Uint8Array of that length`);
      } catch {
        report(`bytes(${count}) threw`);
      }
      return usual.bytes(count);
    },
  };
}

const READY = Promise.resolve();

/**
 * Runs a function after the current turn, as `queueMicrotask` does. Unlike that one, fake timers of test runners do not
 * replace it. The function must not throw.
 */
export function afterCurrentTurn(run: () => void): void {
  void READY.then(run);
}

/** After so long, promise jobs that follow one another let the event loop turn; a few of them may take longer. */
const LONG_TURN_MS = 8;
const FEW_CALLS = 100;
const LONGEST_TURN_MS = 40;
/** The same by count, for clocks that do not advance. */
const MOST_CALLS = 10_000;

/**
 * Lets timers, I/O and signals have their turn. Promise jobs that follow one another run before any of these, however
 * many they are: a handler that sends to its own queue in process would stop the whole program.
 */
export class EventLoopTurn {
  readonly #clock: Clock;
  #startedAt: number | undefined;
  #calls = 0;
  #isLong = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the current turn of the event loop has taken long enough. Each look counts. */
  get isLong(): boolean {
    if (this.#startedAt === undefined) {
      this.#startedAt = this.#passed();
      setImmediate(this.#turned);
    } else if (!this.#isLong) {
      this.#calls++;
      const took = this.#passed() - this.#startedAt;
      const longest = this.#calls < FEW_CALLS ? LONGEST_TURN_MS : LONG_TURN_MS;
      this.#isLong = took >= longest || this.#calls >= MOST_CALLS;
    }
    return this.#isLong;
  }

  /** Virtual time moves between turns alone, and what it measures within one is not work. */
  #passed(): number {
    return this.#clock.isRealTime === true ? this.#clock.monotonic() : 0;
  }

  readonly #turned = (): void => {
    this.#startedAt = undefined;
    this.#calls = 0;
    this.#isLong = false;
  };

  /** Runs a function as {@link afterCurrentTurn} does; when the turn is long, after the event loop has turned. */
  after(run: () => void): void {
    if (this.isLong) this.next(run);
    else afterCurrentTurn(run);
  }

  /** Runs a function when the event loop has turned. It must not throw. */
  next(run: () => void): void {
    if (this.#clock.nextTurn === undefined) setImmediate(run);
    else this.#clock.nextTurn(run);
  }
}

/** Resolves after `ms` milliseconds, or when the signal is aborted. Never rejects. */
export async function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  if (ms <= 0 || signal?.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => resolve();
  const timer = clock.schedule(end, ms);
  signal?.addEventListener("abort", end, { once: true });
  await promise;
  clock.cancel(timer);
  signal?.removeEventListener("abort", end);
}

/** Resolves when the work has resolved, or after `ms` milliseconds. Rejects if the work rejects before. */
export async function within(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([work, pause(clock, ms, over.signal)]);
  } finally {
    over.abort();
  }
}

/**
 * Settles as `work` does, or rejects with the error of `late` after `ms` milliseconds of the machine's timer. A later
 * rejection of `work` is swallowed.
 */
export function settleWithin<Result>(ms: number, late: () => Error, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** The time that a stop has. A later call of the stop may shorten it, and does not prolong it. */
export class StopTime {
  readonly #clock: Clock;
  readonly #shortened = new Set<() => void>();
  #end = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Lets it end after `timeoutMs` at the latest. */
  limit(timeoutMs: number): void {
    const end = this.#clock.monotonic() + timeoutMs;
    if (end >= this.#end) return;
    this.#end = end;
    for (const call of this.#shortened) call();
  }

  /** In whole milliseconds. */
  get leftMs(): number {
    return Math.max(Math.ceil(this.#end - this.#clock.monotonic()), 0);
  }

  /** Calls `call` whenever it is shortened, until the returned function is called. */
  onShortened(call: () => void): () => void {
    this.#shortened.add(call);
    return () => void this.#shortened.delete(call);
  }
}

/** Waits for conditions, which `check` evaluates again after each change. */
export class Conditions {
  readonly #clock: Clock;
  #waits: { readonly condition: () => boolean; readonly done: () => void }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  check(): void {
    if (this.#waits.length === 0) return;
    for (const wait of this.#waits) if (wait.condition()) wait.done();
  }

  /** Resolves when the condition holds, or after a number of milliseconds, or when the time of a stop is over. */
  async until(condition: () => boolean, limit: number | StopTime): Promise<void> {
    if (condition()) return;
    const leftMs = (): number => (typeof limit === "number" ? limit : limit.leftMs);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#clock.cancel(timer);
        forget();
        this.#waits = this.#waits.filter((other) => other !== wait);
        resolve();
      };
      const wait = { condition, done };
      let timer = this.#clock.schedule(done, leftMs());
      const shorten = (): void => {
        this.#clock.cancel(timer);
        timer = this.#clock.schedule(done, leftMs());
      };
      const forget = typeof limit === "number" ? (): void => {} : limit.onShortened(shorten);
      this.#waits.push(wait);
    });
  }

  /** Resolves when the work has settled, or as {@link until} does without it. */
  async settled(work: Promise<unknown>, limit: number | StopTime): Promise<void> {
    let over = false;
    const finish = (): void => {
      over = true;
      this.check();
    };
    work.then(finish, finish);
    await this.until(() => over, limit);
  }
}

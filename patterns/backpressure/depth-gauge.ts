import { type Clock, type Depth, isMessagingError } from "../../core/index.ts";
import type { CheckedLimit } from "./depth-limit.ts";

/** How long an answer is waited for. */
const ASK_MS = 5_000;
/** How long the last depth known is believed while no newer one can be had. */
const BELIEVED_MS = 10_000;
/** What does not mend itself within a moment: there is nothing to believe in. */
const FINAL = ["closed", "not-found", "unauthorized", "unsupported", "invalid"] as const;

/**
 * What is known of a depth: the last answer, and what this process added since, so that the limit holds between two
 * answers too. It is asked for at a bounded rate, whoever wants to know. Credits as in Reactive Streams: the room below
 * the limit is what may be taken, and an answer grants anew what was handled.
 */
export class DepthGauge {
  readonly limit: CheckedLimit;
  readonly #ask: () => Promise<Depth>;
  readonly #clock: Clock;
  readonly #pollMs: number;
  #depth: number | undefined;
  #knownAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;
  /** Taken and not yet settled: it may not be in the depth yet. */
  #pending = 0;
  /** What may have come on top of the depth. */
  #since = 0;
  #full = false;

  constructor(limit: CheckedLimit, ask: () => Promise<Depth>, clock: Clock, pollMs: number) {
    this.limit = limit;
    this.#ask = ask;
    this.#clock = clock;
    this.#pollMs = pollMs;
  }

  /** The last depth told, and what was added since; undefined while it is not known. */
  get level(): number | undefined {
    return this.known ? (this.#depth as number) + this.#since : undefined;
  }

  /** Whether anything is known about the depth at present. */
  get known(): boolean {
    return this.#depth !== undefined && this.#clock.monotonic() - this.#knownAt <= BELIEVED_MS + this.#pollMs;
  }

  /** Whether it is known to be full: it was at the high mark, and not at the low mark since. */
  get full(): boolean {
    return this.#full && this.known;
  }

  /** Whether an answer is old enough to ask again. */
  get stale(): boolean {
    return this.#asking === undefined && this.#clock.monotonic() - this.#askedAt >= this.#pollMs;
  }

  /** Uses up so much of the room; `settled` says when it is in the depth or will never be. */
  take(count: number): void {
    this.#pending += count;
    this.#since += count;
    this.#judge();
  }

  settled(count: number): void {
    this.#pending -= count;
  }

  /** Asks, unless that was done a moment ago; a call meanwhile shares it. Never rejects, and resolves in bounded time. */
  refresh(): Promise<void> {
    if (this.#asking !== undefined) return this.#asking;
    if (!this.stale) return Promise.resolve();
    this.#askedAt = this.#clock.monotonic();
    const before = this.#since;
    const pending = this.#pending;
    this.#asking = this.#answer().then((depth) => {
      this.#asking = undefined;
      if (depth === undefined) return;
      this.#depth = depth;
      this.#knownAt = this.#clock.monotonic();
      this.#since = this.#since - before + pending;
      this.#judge();
    });
    return this.#asking;
  }

  /** The depth; undefined if it could not be had in time. */
  #answer(): Promise<number | undefined> {
    return new Promise((resolve) => {
      const timer = this.#clock.schedule(() => resolve(undefined), ASK_MS);
      const told = (depth: number | undefined): void => {
        this.#clock.cancel(timer);
        resolve(depth);
      };
      const asked = async (): Promise<number | undefined> => {
        const depth: Partial<Depth> | undefined = await this.#ask();
        return Number.isFinite(depth?.ready) ? depth?.ready : undefined;
      };
      asked().then(told, (error: unknown) => {
        if (FINAL.some((code) => isMessagingError(error, code))) this.#depth = undefined;
        told(undefined);
      });
    });
  }

  #judge(): void {
    if (this.#depth === undefined) return;
    const level = this.#depth + this.#since;
    if (level >= this.limit.maxDepth) this.#full = true;
    else if (level <= this.limit.resumeAt) this.#full = false;
  }
}

import type { Clock } from "../../core/clock.ts";
import type { Delivery, Handler, HandlerResult, Middleware } from "../../core/delivery.ts";

const SLICES = 10;

/** The sum of the amounts of the last `windowMs`, kept in ten slices: memory does not grow with the rate. */
export class WindowedSum {
  readonly #sliceMs: number;
  readonly #slices: number[] = new Array<number>(SLICES).fill(0);
  /** The index of the current slice, counted from time zero. */
  #current = 0;

  constructor(windowMs: number) {
    this.#sliceMs = windowMs / SLICES;
  }

  add(now: number, amount: number): void {
    this.#advance(now);
    const index = this.#current % SLICES;
    this.#slices[index] = (this.#slices[index] as number) + amount;
  }

  sum(now: number): number {
    this.#advance(now);
    return this.#slices.reduce((sum, amount) => sum + amount, 0);
  }

  #advance(now: number): void {
    const slice = Math.floor(now / this.#sliceMs);
    if (slice - this.#current >= SLICES) {
      this.#slices.fill(0);
      this.#current = slice;
    }
    while (this.#current < slice) {
      this.#current++;
      this.#slices[this.#current % SLICES] = 0;
    }
  }
}

/** Measures how long handlers run, and how old messages are at their first attempt. */
export class HandlingMeter {
  readonly middleware: Middleware;
  readonly #clock: Clock;
  #handled = 0;
  #busyMs = 0;
  #oldestMs: number | undefined;
  #lastPublishedAt: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.middleware = (next) => (body, delivery) => this.#run(next, body, delivery);
  }

  /** Handlers that have ended. */
  get handled(): number {
    return this.#handled;
  }

  /** The total duration of all of them. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** The greatest age at a first attempt since the last call; without one, the present age of the last started message. */
  takeOldestMs(): number | undefined {
    const oldest = this.#oldestMs;
    this.#oldestMs = undefined;
    if (oldest !== undefined) return oldest;
    return this.#lastPublishedAt === undefined ? undefined : Math.max(this.#clock.now() - this.#lastPublishedAt, 0);
  }

  #run(next: Handler<unknown>, body: unknown, delivery: Delivery): HandlerResult | Promise<HandlerResult> {
    if (delivery.attempt === 1) this.#started(delivery.firstPublishedAt.getTime());
    const from = this.#clock.monotonic();
    const ended = (): void => {
      this.#handled++;
      this.#busyMs += this.#clock.monotonic() - from;
    };
    let result: HandlerResult | Promise<HandlerResult>;
    try {
      result = next(body, delivery);
    } catch (error) {
      ended();
      throw error;
    }
    if (!(result instanceof Promise)) {
      ended();
      return result;
    }
    return result.finally(ended);
  }

  #started(publishedAt: number): void {
    // The publisher's clock may be ahead.
    const ageMs = Math.max(this.#clock.now() - publishedAt, 0);
    this.#oldestMs = Math.max(this.#oldestMs ?? 0, ageMs);
    this.#lastPublishedAt = publishedAt;
  }
}

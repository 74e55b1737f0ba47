import type { Clock } from "../../core/clock.ts";
import type { Delivery, Handler, HandlerResult, Middleware } from "../../core/delivery.ts";

const SLICES = 10;

/** A sum of what was added in the last `windowMs`, kept in ten slices, so that memory does not grow with the rate. */
export class WindowedSum {
  readonly #sliceMs: number;
  readonly #slices: number[] = new Array<number>(SLICES).fill(0);
  /** The number of the slice that is added to, counted from time zero. */
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

/** Watches handlers: how long they take, and how old messages are when they are first started. */
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

  /** How long all of them took together. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** The greatest age at a first start since the last call; without one, the age that the last one has by now. */
  takeOldestMs(): number | undefined {
    const oldest = this.#oldestMs;
    this.#oldestMs = undefined;
    if (oldest !== undefined) return oldest;
    return this.#lastPublishedAt === undefined ? undefined : Math.max(this.#clock.now() - this.#lastPublishedAt, 0);
  }

  #run(next: Handler<unknown>, body: unknown, delivery: Delivery): HandlerResult | Promise<HandlerResult> {
    if (delivery.attempt === 1) this.#started(delivery.firstPublishedAt.getTime());
    const from = this.#clock.monotonic();
    const over = (): void => {
      this.#handled++;
      this.#busyMs += this.#clock.monotonic() - from;
    };
    let result: HandlerResult | Promise<HandlerResult>;
    try {
      result = next(body, delivery);
    } catch (error) {
      over();
      throw error;
    }
    if (!(result instanceof Promise)) {
      over();
      return result;
    }
    return result.finally(over);
  }

  #started(publishedAt: number): void {
    // Clocks of other machines may go ahead of this one.
    const ageMs = Math.max(this.#clock.now() - publishedAt, 0);
    this.#oldestMs = Math.max(this.#oldestMs ?? 0, ageMs);
    this.#lastPublishedAt = publishedAt;
  }
}

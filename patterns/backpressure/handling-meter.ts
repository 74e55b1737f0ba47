import type { Clock, Delivery, Handler, HandlerResult, Middleware } from "../../core/index.ts";

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

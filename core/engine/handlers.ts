import { MessagingError } from "../errors.ts";
import type { Counts } from "./aftermath.ts";
import { type AttemptContext, obstacle, runAttempt, type Verdict } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { Deadlines } from "./deadlines.ts";
import { AttemptDelivery, type HeldDelivery } from "./held-delivery.ts";

/** Told when an attempt is over; `aborted` tells whether its signal was given before. */
export type AttemptOver = (held: HeldDelivery, verdict: Verdict, aborted: boolean) => void;

/** The handlers that run: started, held to their deadline, and left behind where they will not end. */
export class Handlers {
  readonly #context: ConsumerContext;
  readonly #counts: Counts;
  readonly #over: AttemptOver;
  readonly #attempts: AttemptContext;
  readonly #deadlines: Deadlines;
  #running = 0;

  constructor(context: ConsumerContext, counts: Counts, over: AttemptOver) {
    this.#context = context;
    this.#counts = counts;
    this.#over = over;
    this.#deadlines = new Deadlines(context.clock);
    const begin = (held: HeldDelivery, delivery: AttemptDelivery): boolean => {
      const wanted = !delivery.abandoned && !held.lost;
      if (wanted) counts.started++;
      return wanted;
    };
    this.#attempts = { ...context, begin };
  }

  /** All that run. */
  get running(): number {
    return this.#running;
  }

  /** Gives a delivery to the handler, unless something stands against it; either way the attempt will be over. */
  start(held: HeldDelivery): void {
    const { clock, destination, subscription, timeoutMs } = this.#context;
    const now = clock.now();
    held.state = "running";
    this.#running++;
    const delivery = new AttemptDelivery(held, destination, subscription?.address.name);
    held.current = delivery;
    const verdict = obstacle(held, now);
    if (verdict !== undefined) {
      this.#finish(held, delivery, verdict);
      return;
    }
    this.#deadlines.set(held, timeoutMs);
    runAttempt(held, delivery, this.#attempts, (end) => this.#finish(held, delivery, end));
  }

  /** The time of an attempt is over: it has failed, and its handler may go on beside what follows. */
  overrun(held: HeldDelivery, error = this.#tookTooLong()): void {
    const delivery = held.current;
    if (delivery === undefined) return;
    delivery.abort(error);
    this.#finish(held, delivery, { kind: "failed", error, afterMs: undefined });
    this.#abandon(delivery);
  }

  #tookTooLong(): MessagingError {
    const { sourceName, timeoutMs } = this.#context;
    const what = `the handler of ${sourceName} took longer than ${timeoutMs} ms`;
    return new MessagingError("timeout", `${what}; raise timeoutMs, or let the handler heed delivery.signal`);
  }

  /** Leaves a handler behind without a verdict, if one runs on this delivery. */
  leaveBehind(held: HeldDelivery): void {
    if (held.current === undefined) return;
    this.#abandon(held.current);
    this.#free(held);
  }

  /** Lets go of every timer. */
  clear(): void {
    this.#deadlines.clear();
  }

  #finish(held: HeldDelivery, delivery: AttemptDelivery, verdict: Verdict): void {
    if (delivery.abandoned) {
      this.#counts.abandoned--;
      return;
    }
    this.#free(held);
    this.#over(held, verdict, delivery.aborted);
  }

  #free(held: HeldDelivery): void {
    this.#deadlines.lift(held);
    held.current = undefined;
    this.#running--;
  }

  #abandon(delivery: AttemptDelivery): void {
    delivery.abandoned = true;
    this.#counts.abandoned++;
  }
}

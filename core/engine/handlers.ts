import { MessagingError } from "../errors.ts";
import type { Counts } from "./outcomes.ts";
import { type AttemptContext, precheck, runAttempt, type AttemptResult } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { Deadlines } from "./deadlines.ts";
import { Attempt, type InFlightDelivery } from "./in-flight-delivery.ts";

/** Told when an attempt is over; `aborted` tells whether its signal was given before. */
export type AttemptOver = (held: InFlightDelivery, result: AttemptResult, aborted: boolean) => void;

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
    const begin = (held: InFlightDelivery, attempt: Attempt): boolean => {
      const wanted = !attempt.abandoned && !held.lost;
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
  start(held: InFlightDelivery): void {
    const { clock, timeoutMs } = this.#context;
    const now = clock.now();
    held.state = "running";
    this.#running++;
    const attempt = new Attempt(held, this.#context, now);
    held.current = attempt;
    const result = precheck(held, now, this.#context.ordered);
    if (result !== undefined) {
      this.#finish(held, attempt, result);
      return;
    }
    this.#deadlines.set(held, timeoutMs);
    runAttempt(held, attempt, this.#attempts, (end) => this.#finish(held, attempt, end));
  }

  /** The time of an attempt is over: it has failed, and its handler may go on beside what follows. */
  overrun(held: InFlightDelivery, error = this.#tookTooLong()): void {
    const attempt = held.current;
    if (attempt === undefined) return;
    attempt.abort(error);
    this.#finish(held, attempt, { kind: "failed", error, afterMs: undefined });
    this.#abandon(attempt);
  }

  #tookTooLong(): MessagingError {
    const { sourceName, timeoutMs } = this.#context;
    const what = `the handler of ${sourceName} took longer than ${timeoutMs} ms`;
    return new MessagingError("timeout", `${what}; raise timeoutMs, or let the handler heed delivery.signal`);
  }

  /** Leaves a handler behind without a result, if one runs on this delivery. */
  leaveBehind(held: InFlightDelivery): void {
    if (held.current === undefined) return;
    this.#abandon(held.current);
    this.#free(held);
  }

  /** Lets go of every timer. */
  clear(): void {
    this.#deadlines.clear();
  }

  #finish(held: InFlightDelivery, attempt: Attempt, result: AttemptResult): void {
    if (attempt.abandoned) {
      this.#counts.abandoned--;
      return;
    }
    this.#free(held);
    this.#over(held, result, attempt.aborted);
  }

  #free(held: InFlightDelivery): void {
    this.#deadlines.lift(held);
    held.current = undefined;
    this.#running--;
  }

  #abandon(attempt: Attempt): void {
    attempt.abandoned = true;
    this.#counts.abandoned++;
  }
}

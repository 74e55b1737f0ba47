import type { DeadLetterResult } from "../adapter.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { LONGEST_MS } from "../names.ts";
import type { AttemptResult } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { Republisher, type CopyForm, MOST_TRIES } from "./republisher.ts";
import { type DeadLetterCause, deadLetterCopy, hopCopy, postponedCopy, retryCopy } from "./copies.ts";
import { type CopyRefusal, copyRefusal } from "./copy-refusal.ts";
import type { Settlements } from "./settlements.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";
import type { ParkedDeliveries } from "./parked.ts";
import { barestCopy, reducedCopy } from "./reduced-copies.ts";

/** What a consumer counts, since it was made. */
export interface Counts {
  started: number;
  succeeded: number;
  failed: number;
  retried: number;
  postponed: number;
  deadLettered: number;
  filtered: number;
  requeued: number;
  fenced: number;
  abandoned: number;
}

export function noCounts(): Counts {
  return {
    started: 0,
    succeeded: 0,
    failed: 0,
    retried: 0,
    postponed: 0,
    deadLettered: 0,
    filtered: 0,
    requeued: 0,
    fenced: 0,
    abandoned: 0,
  };
}

/** How a delivery stays with the consumer after an attempt. */
export interface OutcomeOwner {
  /**
   * Keep it, and its queue, and try it again here after a while; `aside` tells that it rests here only because it cannot be
   * copied, and is not to count in the prefetch.
   */
  rest(held: InFlightDelivery, delayMs: number, aside: boolean): void;
  /** Keep it, unsettled, until `again`, which is called later. */
  park(held: InFlightDelivery, refusal: CopyRefusal, again: () => void): void;
}

/** What outcomes are applied with. */
export interface OutcomeParts {
  readonly counts: Counts;
  readonly parked: ParkedDeliveries;
  readonly settlements: Settlements;
}

/** Turns verdicts into acks, retries and dead letters. */
export class OutcomeHandler {
  readonly #context: ConsumerContext;
  readonly #republisher: Republisher;
  readonly #counts: Counts;
  readonly #parked: ParkedDeliveries;
  readonly #settlements: Settlements;
  readonly #owner: OutcomeOwner;

  constructor(context: ConsumerContext, { counts, parked, settlements }: OutcomeParts, owner: OutcomeOwner) {
    this.#context = context;
    this.#settlements = settlements;
    this.#parked = parked;
    this.#republisher = new Republisher(context, (held) => settlements.dropped(held));
    this.#counts = counts;
    this.#owner = owner;
  }

  start(): void {
    this.#republisher.start();
  }

  /** No further tries at copies that failed. */
  stop(): void {
    this.#republisher.stop();
  }

  /** So many were passed over, and never delivered. */
  filtered(count: number): void {
    this.#counts.filtered += count;
  }

  apply(held: InFlightDelivery, result: AttemptResult): void {
    switch (result.kind) {
      case "done":
        this.#counts.succeeded++;
        this.#settlements.ack(held);
        break;
      case "failed":
        this.#counts.failed++;
        this.#fail(held, result.error, result.afterMs);
        break;
      case "dead":
        if (result.reason === "rejected") this.#counts.failed++;
        this.#deadLetter(held, result.reason, result.error);
        break;
      case "postponed":
        this.#counts.postponed++;
        this.#defer(held, wholeMs(result.afterMs), postponedCopy);
        break;
      case "early":
        this.#defer(held, result.delayMs, hopCopy);
        break;
    }
  }

  /** `instead` is done where no copy can be made: a copy that lost headers on its way would not be the same message to a handler. */
  #copy(held: InFlightDelivery, route: ConsumerContext["retries"], form: CopyForm, instead: () => void): void {
    held.state = "copying";
    this.#republisher.copy(held, { route, forms: [form], confirmed: () => this.#settlements.ack(held), refused: instead });
  }

  /** Has it come again without a failure. */
  #defer(held: InFlightDelivery, delayMs: number, make: typeof hopCopy): void {
    const { ordered, maxDelayMs, retries } = this.#context;
    const rest = (aside: boolean): void => {
      // The rest counts one more attempt, and this was none.
      held.attempt--;
      this.#owner.rest(held, delayMs, aside);
    };
    if (ordered || (maxDelayMs === 0 && delayMs > 0)) rest(false);
    else
      this.#copy(
        held,
        retries,
        (context) => make(held, context, delayMs),
        () => rest(true),
      );
  }

  #fail(held: InFlightDelivery, error: unknown, afterMs: number | undefined): void {
    const { retry, clock, ordered, maxDelayMs, retries, emit, sourceName } = this.#context;
    held.firstFailedAt ??= new Date(clock.now()).toISOString();
    if (held.attempt >= retry.attempts) {
      this.#deadLetter(held, "attempts", error);
      return;
    }
    const delayMs = afterMs === undefined ? retry.delayMs(held.attempt) : wholeMs(afterMs);
    this.#counts.retried++;
    emit({ type: "retried", source: sourceName, id: held.incoming.id, attempt: held.attempt, delayMs, error });
    if (ordered || (maxDelayMs === 0 && delayMs > 0)) this.#owner.rest(held, delayMs, false);
    else {
      const instead = (): void => this.#owner.rest(held, delayMs, true);
      this.#copy(held, retries, (context) => retryCopy(held, context, delayMs), instead);
    }
  }

  #deadLetter(held: InFlightDelivery, reason: DeadLetterReason, error: unknown): void {
    // What was not started this time counts the attempts before.
    const started = reason === "attempts" || reason === "rejected";
    const attempts = started ? held.attempt : held.attempt - 1;
    held.state = "copying";
    this.#bury(held, { origin: this.#context.source, reason, attempts, error }, 1);
  }

  /** By a copy, a smaller copy, the broker's own means; and where nothing takes it, it is parked. */
  #bury(held: InFlightDelivery, cause: DeadLetterCause, tries: number): void {
    const { deadLetters, adapter } = this.#context;
    const { unreadable } = held.incoming;
    if (unreadable !== undefined) {
      this.#move(held, cause, copyRefusal(unreadable), tries);
      return;
    }
    const letter: CopyForm = (context) => deadLetterCopy(held, context, cause);
    const reduced: CopyForm = (context) => reducedCopy(deadLetterCopy(held, context, cause), adapter.capabilities);
    const barest: CopyForm = (context) => barestCopy(deadLetterCopy(held, context, cause));
    const confirmed = (): void => {
      this.#buried(held, cause);
      this.#settlements.ack(held);
    };
    const refused = (refusal: CopyRefusal): void => {
      if (refusal.kind === "message") this.#move(held, cause, refusal, tries);
      else this.#park(held, cause, refusal);
    };
    this.#republisher.copy(held, { route: deadLetters, forms: [letter, reduced, barest], confirmed, refused }, tries);
  }

  /** By the broker's own means, if it has some. */
  #move(held: InFlightDelivery, cause: DeadLetterCause, refusal: CopyRefusal, tries: number): void {
    const { clock, maxDelayMs, adapter } = this.#context;
    const letter = deadLetterCopy(held, { now: clock.now(), maxDelayMs }, cause);
    const moved = this.#settlements.deadLetter(held, reducedCopy(letter, adapter.capabilities) ?? letter);
    if (moved === undefined) {
      this.#park(held, cause, refusal);
      return;
    }
    moved.then(
      (result) => this.#moved(held, cause, result, tries),
      (failure: unknown) => this.#moved(held, cause, { status: "unknown", cause: failure }, tries),
    );
  }

  #moved(held: InFlightDelivery, cause: DeadLetterCause, result: DeadLetterResult, tries: number): void {
    if (result.status === "settled" || result.status === "fenced") {
      if (result.status === "settled") this.#buried(held, cause);
      else this.#counts.fenced++;
      this.#settlements.dropped(held);
      return;
    }
    const { emit, sourceName } = this.#context;
    const refusal = copyRefusal(result.status === "refused" ? result.error : result.cause);
    emit({ type: "copy-failed", source: sourceName, id: held.incoming.id, error: refusal.error });
    if (held.lost) this.#settlements.dropped(held);
    else if (result.status === "refused" || tries >= MOST_TRIES) this.#park(held, cause, refusal);
    else this.#republisher.again(held, tries, () => this.#move(held, cause, refusal, tries + 1));
  }

  #buried({ incoming: { id } }: InFlightDelivery, { reason, error }: DeadLetterCause): void {
    const { emit, sourceName } = this.#context;
    this.#counts.deadLettered++;
    emit({ type: "dead-lettered", source: sourceName, id, reason, error });
    this.#parked.retry("not refused for what they are");
  }

  #park(held: InFlightDelivery, cause: DeadLetterCause, { kind, error: refusal }: CopyRefusal): void {
    const { emit, sourceName } = this.#context;
    const { id } = held.incoming;
    const error = new MessagingError(
      refusal.code,
      `message ${id} of ${sourceName} is parked, unsettled on the broker: nothing takes it into the dead letters (${refusal.message}). Mend that; it is tried again at long intervals, and at once after consumer.resume()`,
      { cause: refusal },
    );
    if (held.state !== "parked") emit({ type: "parked", source: sourceName, id, reason: cause.reason, error });
    this.#owner.park(held, { kind, error }, () => this.#bury(held, cause, MOST_TRIES));
  }
}

/** Rounded up: a header that carries a time carries no fractions. */
function wholeMs(afterMs: number): number {
  return Math.min(Math.ceil(afterMs), LONGEST_MS);
}

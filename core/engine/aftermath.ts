import type { DeadLetterReason } from "../events.ts";
import { LONGEST_MS } from "../names.ts";
import type { Verdict } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { Copier } from "./copier.ts";
import { deadLetterCopy, hopCopy, postponedCopy, retryCopy, suspectCopy } from "./copies.ts";
import type { HeldDelivery } from "./held-delivery.ts";

/** What a consumer counts, since it was made. */
export interface Counts {
  started: number;
  succeeded: number;
  failed: number;
  retried: number;
  postponed: number;
  deadLettered: number;
  filtered: number;
  released: number;
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
    released: 0,
    fenced: 0,
    abandoned: 0,
  };
}

/** How a delivery goes on after an attempt, apart from copies. */
export interface AftermathOwner {
  /** Done with, here: the broker may forget it. */
  ack(held: HeldDelivery): void;
  /** Keep it, and its lane, and try it again here after a while. */
  rest(held: HeldDelivery, delayMs: number): void;
  /** It was lost before its copy stood; there is nothing left to settle. */
  dropped(held: HeldDelivery): void;
}

/** Turns verdicts into acks, retries and dead letters. */
export class Aftermath {
  readonly #context: ConsumerContext;
  readonly #copier: Copier;
  readonly #counts: Counts;
  readonly #owner: AftermathOwner;

  constructor(context: ConsumerContext, counts: Counts, owner: AftermathOwner) {
    this.#context = context;
    this.#copier = new Copier(context, (held) => owner.dropped(held));
    this.#counts = counts;
    this.#owner = owner;
  }

  start(): void {
    this.#copier.start();
  }

  /** No further tries at copies that failed. */
  stop(): void {
    this.#copier.stop();
  }

  /** So many were passed over, and never delivered. */
  filtered(count: number): void {
    this.#counts.filtered += count;
  }

  apply(held: HeldDelivery, verdict: Verdict): void {
    const { suspects } = this.#context;
    switch (verdict.kind) {
      case "done":
        this.#counts.succeeded++;
        this.#owner.ack(held);
        break;
      case "failed":
        this.#counts.failed++;
        this.#fail(held, verdict.error, verdict.afterMs);
        break;
      case "dead":
        if (verdict.reason === "rejected") this.#counts.failed++;
        this.#deadLetter(held, verdict.reason, verdict.error);
        break;
      case "postponed":
        this.#counts.postponed++;
        this.#defer(held, wholeMs(verdict.afterMs), postponedCopy);
        break;
      case "early":
        this.#defer(held, verdict.delayMs, hopCopy);
        break;
      case "suspect":
        this.#copier.copy(held, suspects, (context) => suspectCopy(held, context), this.#ack);
        break;
    }
  }

  readonly #ack = (held: HeldDelivery): void => this.#owner.ack(held);

  /** Has it come again without a failure. */
  #defer(held: HeldDelivery, delayMs: number, make: typeof hopCopy): void {
    const { ordered, maxDelayMs, retries } = this.#context;
    if (ordered || (maxDelayMs === 0 && delayMs > 0)) {
      // The rest counts one more attempt, and this was none.
      held.attempt--;
      this.#owner.rest(held, delayMs);
    } else {
      this.#copier.copy(held, retries, (context) => make(held, context, delayMs), this.#ack);
    }
  }

  #fail(held: HeldDelivery, error: unknown, afterMs: number | undefined): void {
    const { retry, clock, ordered, maxDelayMs, retries, emit, sourceName } = this.#context;
    held.firstFailedAt ??= new Date(clock.now()).toISOString();
    if (held.attempt >= retry.attempts) {
      this.#deadLetter(held, "attempts", error);
      return;
    }
    const delayMs = afterMs === undefined ? Math.min(retry.delayMs(held.attempt), LONGEST_MS) : wholeMs(afterMs);
    this.#counts.retried++;
    emit({ type: "retried", source: sourceName, id: held.incoming.id, attempt: held.attempt, delayMs, error });
    if (ordered || (maxDelayMs === 0 && delayMs > 0)) this.#owner.rest(held, delayMs);
    else this.#copier.copy(held, retries, (context) => retryCopy(held, context, delayMs), this.#ack);
  }

  #deadLetter(held: HeldDelivery, reason: DeadLetterReason, error: unknown): void {
    const { source, deadLetters, emit, sourceName } = this.#context;
    // What was not started this time counts the attempts before.
    const started = reason === "attempts" || reason === "rejected";
    const attempts = started ? held.attempt : held.attempt - 1;
    this.#copier.copy(
      held,
      deadLetters,
      (context) => deadLetterCopy(held, context, source, reason, attempts, error),
      () => {
        this.#counts.deadLettered++;
        emit({ type: "dead-lettered", source: sourceName, id: held.incoming.id, reason, error });
        this.#owner.ack(held);
      },
    );
  }
}

/** Rounded up: a header that carries a time carries no fractions. */
function wholeMs(afterMs: number): number {
  return Math.min(Math.ceil(afterMs), LONGEST_MS);
}

import type { DeadLetterResult, OutgoingMessage } from "../adapter.ts";
import { LONGEST_MS } from "../checks.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { shownId } from "../foreign.ts";
import type { Route } from "../publish/publish-queue.ts";
import type { ConsumerContext, Counts } from "./consumer-context.ts";
import {
  barestCopy,
  type CopyContext,
  type CopyRefusal,
  copyRefusal,
  type DeadLetterCause,
  deadLetterCopy,
  hopCopy,
  postponedCopy,
  reducedCopy,
  retryCopy,
} from "./copies.ts";
import type { InFlightDelivery } from "./in-flight.ts";
import type { ConsumerReceiver } from "./receiver.ts";
import type { AttemptResult } from "./run-handler.ts";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** The most tries of a copy that fails without a clear refusal. */
const MOST_TRIES = 6;

/** What the consumer does with a delivery after an attempt. */
export type NextStep =
  /** The message is done, or its copy is confirmed: the broker may forget it. */
  | { readonly kind: "ack"; readonly deadLettered: boolean }
  /** There is nothing left to settle: the delivery was lost, or the broker has dead-lettered the message itself. */
  | { readonly kind: "drop"; readonly deadLettered: boolean }
  /**
   * A blocking retry: the delivery stays here until attempt number `attempt`. With `exempt` it only stays because the
   * broker refuses its copy, so it does not count in the prefetch.
   */
  | { readonly kind: "retry-here"; readonly attempt: number; readonly delayMs: number; readonly exempt: boolean }
  /** Nothing takes the dead letter: the delivery stays unsettled, and `again` tries later. */
  | { readonly kind: "park"; readonly refusal: CopyRefusal; readonly again: () => Promise<NextStep> }
  /** The consumer stopped before a copy was confirmed; its stop requeues the delivery. */
  | { readonly kind: "none" };

const ACK: NextStep = Object.freeze({ kind: "ack", deadLettered: false });
const DROP: NextStep = Object.freeze({ kind: "drop", deadLettered: false });
const NONE: NextStep = Object.freeze({ kind: "none" });

/** Makes one form of a copy; undefined where it equals the form before. */
type CopyForm = (context: CopyContext) => OutgoingMessage | undefined;

/** How sending a copy ended; `refused`: no copy can be made for now. */
type CopyResult =
  | { readonly status: "confirmed" | "lost" | "stopped" }
  | { readonly status: "refused"; readonly refusal: CopyRefusal };

/**
 * Decides what follows from the result of an attempt, and sends the copies for it: delayed retries and dead letters.
 * A message stays unsettled until its copy is confirmed. A crash in between duplicates it under its id; nothing loses it.
 */
export class OutcomeHandler {
  readonly #context: ConsumerContext;
  readonly #counts: Counts;
  readonly #receiver: () => ConsumerReceiver | undefined;
  #stopped = false;

  /** `receiver` returns the one that the deliveries came from; undefined while none is open. */
  constructor(context: ConsumerContext, counts: Counts, receiver: () => ConsumerReceiver | undefined) {
    this.#context = context;
    this.#counts = counts;
    this.#receiver = receiver;
  }

  start(): void {
    this.#stopped = false;
  }

  /** Ends further tries of failed copies. Copies under way may still be confirmed. */
  stop(): void {
    this.#stopped = true;
  }

  /** Returns the next step; a promise where a copy is sent first. */
  apply(delivery: InFlightDelivery, result: AttemptResult): NextStep | Promise<NextStep> {
    switch (result.kind) {
      case "done":
        this.#counts.succeeded++;
        return ACK;
      case "failed":
        this.#counts.failed++;
        return this.#fail(delivery, result.error, result.afterMs);
      case "dead":
        if (result.reason === "rejected") this.#counts.failed++;
        return this.#deadLetter(delivery, result.reason, result.error);
      case "postponed":
        this.#counts.postponed++;
        return this.#deliverAgain(delivery, delivery.attempt, wholeMs(result.afterMs), postponedCopy);
      case "early":
        return this.#deliverAgain(delivery, delivery.attempt, result.delayMs, hopCopy);
    }
  }

  #fail(delivery: InFlightDelivery, error: unknown, afterMs: number | undefined): NextStep | Promise<NextStep> {
    const { retry, clock, emit, sourceName } = this.#context;
    const { attempt, incoming } = delivery;
    delivery.firstFailedAt ??= new Date(clock.now()).toISOString();
    if (attempt >= retry.attempts) return this.#deadLetter(delivery, "attempts", error);
    const delayMs = afterMs === undefined ? retry.delayMs(attempt) : wholeMs(afterMs);
    this.#counts.retried++;
    emit({ type: "retried", source: sourceName, id: incoming.id, attempt, delayMs, error });
    return this.#deliverAgain(delivery, attempt + 1, delayMs, retryCopy);
  }

  /** By a delayed copy. Here, in its place, where order or the broker allow none. */
  #deliverAgain(
    delivery: InFlightDelivery,
    attempt: number,
    delayMs: number,
    make: typeof retryCopy,
  ): NextStep | Promise<NextStep> {
    const { ordered, maxDelayMs } = this.#context;
    if (!ordered && (maxDelayMs > 0 || delayMs === 0)) return this.#copyLater(delivery, attempt, delayMs, make);
    return { kind: "retry-here", attempt, delayMs, exempt: false };
  }

  /** Only the full copy will do: to a handler, one with fewer headers would not be the same message. */
  async #copyLater(
    delivery: InFlightDelivery,
    attempt: number,
    delayMs: number,
    make: typeof retryCopy,
  ): Promise<NextStep> {
    delivery.state = "copying";
    const form: CopyForm = (context) => make(delivery, context, delayMs);
    const { status } = await this.#copy(delivery, this.#context.retries, [form], 1);
    return status === "refused" ? { kind: "retry-here", attempt, delayMs, exempt: true } : stepAfter(status);
  }

  #deadLetter(delivery: InFlightDelivery, reason: DeadLetterReason, error: unknown): Promise<NextStep> {
    // Without a handler started this time, only the attempts before count.
    const started = reason === "attempts" || reason === "rejected";
    const attempts = started ? delivery.attempt : delivery.attempt - 1;
    delivery.state = "copying";
    return this.#sendDeadLetter(delivery, { origin: this.#context.source, reason, attempts, error }, 1);
  }

  /** By a copy, then by smaller copies, then by the broker's own means. Where nothing takes it, it is parked. */
  async #sendDeadLetter(delivery: InFlightDelivery, cause: DeadLetterCause, tries: number): Promise<NextStep> {
    const { deadLetters, adapter } = this.#context;
    const { unreadable } = delivery.incoming;
    if (unreadable !== undefined) return this.#moveByBroker(delivery, cause, copyRefusal(unreadable), tries);
    const full = (context: CopyContext): OutgoingMessage => deadLetterCopy(delivery, context, cause);
    const forms: CopyForm[] = [
      full,
      (context) => reducedCopy(full(context), adapter.capabilities),
      (context) => barestCopy(full(context)),
    ];
    const result = await this.#copy(delivery, deadLetters, forms, tries);
    if (result.status === "refused") {
      const { refusal } = result;
      if (refusal.kind === "message") return this.#moveByBroker(delivery, cause, refusal, tries);
      return this.#park(delivery, cause, refusal);
    }
    if (result.status !== "confirmed") return stepAfter(result.status);
    this.#deadLettered(delivery, cause);
    return { kind: "ack", deadLettered: true };
  }

  /** Dead-letters by the broker's own means, if it has some. */
  async #moveByBroker(
    delivery: InFlightDelivery,
    cause: DeadLetterCause,
    refusal: CopyRefusal,
    tries: number,
  ): Promise<NextStep> {
    const { clock, maxDelayMs, adapter } = this.#context;
    const letter = deadLetterCopy(delivery, { now: clock.now(), maxDelayMs }, cause);
    const moved = this.#receiver()?.deadLetter(delivery, reducedCopy(letter, adapter.capabilities) ?? letter);
    if (moved === undefined) return this.#park(delivery, cause, refusal);
    const result = await moved.catch((failure: unknown): DeadLetterResult => ({ status: "unknown", cause: failure }));
    if (result.status === "settled") {
      this.#deadLettered(delivery, cause);
      return { kind: "drop", deadLettered: true };
    }
    if (result.status === "fenced") {
      this.#counts.fenced++;
      return DROP;
    }
    const failed = copyRefusal(result.status === "refused" ? result.error : result.cause);
    this.#copyFailed(delivery, failed);
    if (delivery.lost) return DROP;
    if (result.status === "refused" || tries >= MOST_TRIES) return this.#park(delivery, cause, failed);
    await this.#pause(delivery, tries);
    return this.#stopped ? NONE : this.#moveByBroker(delivery, cause, failed, tries + 1);
  }

  #deadLettered({ incoming: { id } }: InFlightDelivery, { reason, error }: DeadLetterCause): void {
    this.#counts.deadLettered++;
    this.#context.emit({ type: "dead-lettered", source: this.#context.sourceName, id, reason, error });
  }

  #park(delivery: InFlightDelivery, cause: DeadLetterCause, { kind, error: refusal }: CopyRefusal): NextStep {
    const { emit, sourceName } = this.#context;
    const { id } = delivery.incoming;
    const error = new MessagingError(
      refusal.code,
      `message ${shownId(id)} of ${sourceName} is parked, unsettled on the broker: nothing takes it into the dead letters (${refusal.message}). Mend that; it is tried again at long intervals, and at once after consumer.resume()`,
      { cause: refusal },
    );
    if (delivery.state !== "parked") emit({ type: "parked", source: sourceName, id, reason: cause.reason, error });
    const again = (): Promise<NextStep> => this.#sendDeadLetter(delivery, cause, MOST_TRIES);
    return { kind: "park", refusal: { kind, error }, again };
  }

  /**
   * Sends the first form of a copy that the broker takes, each smaller than the one before. `tries` counts from 1; from
   * {@link MOST_TRIES} on nothing is tried twice.
   */
  async #copy(
    delivery: InFlightDelivery,
    route: Route,
    forms: readonly CopyForm[],
    tries: number,
  ): Promise<CopyResult> {
    const { publishing, clock, maxDelayMs } = this.#context;
    let result: CopyResult = { status: "stopped" };
    for (const form of forms) {
      for (let message = form({ now: clock.now(), maxDelayMs }); message !== undefined; ) {
        let refusal: CopyRefusal;
        try {
          await publishing.sendCopy(route, message);
          return { status: "confirmed" };
        } catch (cause) {
          refusal = copyRefusal(cause);
        }
        this.#copyFailed(delivery, refusal);
        result = { status: "refused", refusal };
        if (delivery.lost) return { status: "lost" };
        if (this.#stopped) return { status: "stopped" };
        if (refusal.kind === "message") break;
        if (refusal.kind === "place" || tries >= MOST_TRIES) return result;
        await this.#pause(delivery, tries++);
        if (this.#stopped) return { status: "stopped" };
        message = form({ now: clock.now(), maxDelayMs });
      }
    }
    return result;
  }

  #copyFailed({ incoming: { id } }: InFlightDelivery, { error }: CopyRefusal): void {
    this.#context.emit({ type: "copy-failed", source: this.#context.sourceName, id, error });
  }

  /** Waits longer after each try. Never resolves for a delivery that leaves meanwhile. */
  #pause(delivery: InFlightDelivery, tries: number): Promise<void> {
    const { clock, random } = this.#context;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS);
    return new Promise((resolve) => delivery.wakeAfter(clock, pauseMs * (1 + random.fraction()), resolve));
  }
}

function stepAfter(status: "confirmed" | "lost" | "stopped"): NextStep {
  if (status === "stopped") return NONE;
  return status === "lost" ? DROP : ACK;
}

/** Rounds up, because a header with a time has no fractions. */
function wholeMs(afterMs: number): number {
  return Math.min(Math.ceil(afterMs), LONGEST_MS);
}

import type { DeadLetterResult, OutgoingMessage, Settlement, SettleResult } from "../adapter.ts";
import { LONGEST_MS } from "../checks.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import type { Route } from "../publish/publish-queue.ts";
import type { ConsumerContext, ConsumerHealth, Counts } from "./consumer-context.ts";
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
import type { InFlightDeliveries, InFlightDelivery } from "./in-flight.ts";
import type { DeliveryQueue } from "./key-queues.ts";
import type { Quarantine } from "./quarantine.ts";
import type { ConsumerReceiver } from "./receiver.ts";
import type { AttemptResult } from "./run-handler.ts";

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
interface OutcomeParts {
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
    this.#republisher.copy(held, {
      route,
      forms: [form],
      confirmed: () => this.#settlements.ack(held),
      refused: instead,
    });
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

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** So often a copy is tried whose refusals say nothing clear. */
const MOST_TRIES = 6;

/** Makes a copy when its turn comes; undefined where it would be the one before once more. */
type CopyForm = (context: CopyContext) => OutgoingMessage | undefined;

/** A copy to be made, and what follows. */
interface Republication {
  readonly route: Route;
  /** The copy and, where that is refused for what it is, smaller ones in turn. */
  readonly forms: readonly CopyForm[];
  /** The copy is confirmed. */
  confirmed(): void;
  /** No copy can be made for now; what becomes of the delivery is the caller's to say. */
  refused(refusal: CopyRefusal): void;
}

/**
 * Makes copies of held deliveries. Until a copy is confirmed its original stays unsettled, however often it takes; so a
 * crash in between duplicates the message under its id, and nothing loses it.
 */
class Republisher {
  readonly #context: ConsumerContext;
  readonly #dropped: (held: InFlightDelivery) => void;
  #stopped = false;

  /** `dropped` is called for a delivery that was lost before its copy stood. */
  constructor(context: ConsumerContext, dropped: (held: InFlightDelivery) => void) {
    this.#context = context;
    this.#dropped = dropped;
  }

  /** Begins again after {@link Republisher.stop}. */
  start(): void {
    this.#stopped = false;
  }

  /** No further tries; copies under way may still be confirmed. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * One of `confirmed` and `refused` is called; neither if the delivery was lost, or the consumer stopped before. `tries`
   * counts from 1: from {@link MOST_TRIES} on nothing is tried twice.
   */
  copy(held: InFlightDelivery, copying: Republication, tries = 1): void {
    this.#try(held, copying, 0, tries, undefined);
  }

  #try(
    held: InFlightDelivery,
    copying: Republication,
    form: number,
    tries: number,
    before: CopyRefusal | undefined,
  ): void {
    const { publishing, clock, maxDelayMs } = this.#context;
    const make = copying.forms[form];
    const message = make?.({ now: clock.now(), maxDelayMs });
    if (message === undefined) {
      if (make !== undefined) this.#try(held, copying, form + 1, tries, before);
      else if (before !== undefined) copying.refused(before);
      return;
    }
    publishing.sendCopy(copying.route, message).then(
      () => copying.confirmed(),
      (cause) => this.#failed(held, copying, form, tries, copyRefusal(cause)),
    );
  }

  #failed(held: InFlightDelivery, copying: Republication, form: number, tries: number, refusal: CopyRefusal): void {
    const { emit, sourceName } = this.#context;
    emit({ type: "copy-failed", source: sourceName, id: held.incoming.id, error: refusal.error });
    if (held.lost) this.#dropped(held);
    else if (this.#stopped) return;
    else if (refusal.kind === "message") this.#try(held, copying, form + 1, tries, refusal);
    else if (refusal.kind === "place" || tries >= MOST_TRIES) copying.refused(refusal);
    else this.again(held, tries, () => this.#try(held, copying, form, tries + 1, undefined));
  }

  /** Tries something again after a pause that grows with the tries made. */
  again(held: InFlightDelivery, tries: number, run: () => void): void {
    const { clock, random } = this.#context;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS);
    held.rest = clock.schedule(
      () => {
        held.rest = undefined;
        if (!this.#stopped) run();
      },
      pauseMs * (1 + random.fraction()),
    );
  }
}

/** What deliveries leave behind when they go. */
interface SettlementsParts {
  readonly queues: DeliveryQueue;
  readonly held: InFlightDeliveries;
  readonly parked: ParkedDeliveries;
  readonly quarantine: Quarantine;
  readonly counts: Counts;
  /** Where they came in; undefined while nothing is open. */
  readonly receiver: () => ConsumerReceiver | undefined;
  /** Something left, or is about to. */
  readonly changed: () => void;
}

/** The ways in which deliveries leave a consumer: settled, given back, moved by the broker, or lost. */
export class Settlements {
  readonly #context: Pick<ConsumerContext, "clock">;
  readonly #parts: SettlementsParts;

  constructor(context: Pick<ConsumerContext, "clock">, parts: SettlementsParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Done with, here: the broker may forget it. */
  ack(held: InFlightDelivery): void {
    // A copy that was confirmed after its original had been given back.
    if (held.isLeaving) return;
    if (held.lost) {
      this.#parts.counts.fenced++;
      this.drop(held);
    } else {
      this.#parts.queues.leave(held);
      this.#parts.receiver()?.settle(held, "ack");
    }
    this.#parts.changed();
  }

  /** There is nothing left to settle: it was lost meanwhile, or the broker has moved it. */
  dropped(held: InFlightDelivery): void {
    this.drop(held);
    this.#parts.changed();
  }

  requeue(held: InFlightDelivery): void {
    if (held.isLeaving) return;
    held.cancelRest(this.#context.clock);
    if (held.lost) {
      this.drop(held);
      return;
    }
    this.#parts.quarantine.ended(held);
    this.#parts.queues.leave(held);
    this.#parts.receiver()?.settle(held, "requeue");
  }

  /** Gives back everything that nothing is done with at present. */
  requeueIdle(): void {
    for (const held of this.#parts.held) if (held.isIdle) this.requeue(held);
  }

  /** A settlement was answered. */
  settled(held: InFlightDelivery, action: Settlement["action"], result: SettleResult): void {
    if (result === "fenced") this.#parts.counts.fenced++;
    else if (action === "requeue") this.#parts.counts.requeued++;
    this.#forget(held);
    this.#parts.changed();
  }

  /** Has the broker move it to the dead letters; undefined where it cannot. */
  deadLetter(held: InFlightDelivery, letter: OutgoingMessage): Promise<DeadLetterResult> | undefined {
    return this.#parts.receiver()?.deadLetter(held, letter);
  }

  /** It is settled already, or lost. */
  drop(held: InFlightDelivery): void {
    this.#parts.queues.leave(held);
    this.#forget(held);
  }

  dropAll(): void {
    this.#parts.queues.drain();
    for (const held of this.#parts.held) this.#forget(held);
  }

  #forget(held: InFlightDelivery): void {
    held.cancelRest(this.#context.clock);
    this.#parts.parked.remove(held);
    this.#parts.quarantine.ended(held);
    this.#parts.held.remove(held);
  }
}

const FIRST_PARKED_MS = 30_000;
const LONGEST_PARKED_MS = 600_000;

interface Parked {
  readonly refusal: CopyRefusal;
  readonly pauseMs: number;
  readonly again: () => void;
}

/**
 * Deliveries whose dead letter nothing takes. Each is tried again at growing intervals, and all at once when something
 * suggests that it may go now.
 */
export class ParkedDeliveries {
  readonly #context: Pick<ConsumerContext, "clock" | "random">;
  readonly #health: ConsumerHealth;
  readonly #parked = new Map<InFlightDelivery, Parked>();

  constructor(context: Pick<ConsumerContext, "clock" | "random">, health: ConsumerHealth) {
    this.#context = context;
    this.#health = health;
  }

  get size(): number {
    return this.#parked.size;
  }

  /** Parks one, or parks it again after a try that failed. */
  add(held: InFlightDelivery, refusal: CopyRefusal, again: () => void): void {
    const before = this.#parked.get(held);
    const pauseMs = before === undefined ? FIRST_PARKED_MS : Math.min(before.pauseMs * 2, LONGEST_PARKED_MS);
    const parked = { refusal, pauseMs, again };
    this.#parked.set(held, parked);
    this.#health.parked(refusal.error);
    const { clock, random } = this.#context;
    held.rest = clock.schedule(() => this.#retry(held, parked), pauseMs * (1 + random.fraction()));
  }

  /** Tries now what waits for its next try: all of it, or only what was not refused for what it is. */
  retry(which: "all" | "not refused for what they are"): void {
    for (const [held, parked] of [...this.#parked]) {
      if (held.rest === undefined || (which !== "all" && parked.refusal.kind === "message")) continue;
      held.cancelRest(this.#context.clock);
      this.#retry(held, parked);
    }
  }

  /** It is settled, given back or lost. One that is not parked is no error. */
  remove(held: InFlightDelivery): void {
    if (!this.#parked.delete(held)) return;
    const last = [...this.#parked.values()].at(-1);
    this.#health.parked(last?.refusal.error);
  }

  #retry(held: InFlightDelivery, { again }: Parked): void {
    held.rest = undefined;
    again();
  }
}

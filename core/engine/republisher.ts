import type { OutgoingMessage } from "../adapter.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { CopyContext } from "./copies.ts";
import { type CopyRefusal, copyRefusal } from "./copy-refusal.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";
import type { Route } from "./publishing.ts";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** So often a copy is tried whose refusals say nothing clear. */
export const MOST_TRIES = 6;

/** Makes a copy when its turn comes; undefined where it would be the one before once more. */
export type CopyForm = (context: CopyContext) => OutgoingMessage | undefined;

/** A copy to be made, and what follows. */
export interface Republication {
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
export class Republisher {
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

  #try(held: InFlightDelivery, copying: Republication, form: number, tries: number, before: CopyRefusal | undefined): void {
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

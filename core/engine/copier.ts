import type { OutgoingMessage } from "../adapter.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { CopyContext } from "./copies.ts";
import type { HeldDelivery } from "./held-delivery.ts";
import type { Route } from "./publishing.ts";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/**
 * Makes copies of held deliveries. Until a copy is confirmed its original stays unsettled, however often it takes; so a
 * crash in between duplicates the message under its id, and nothing loses it.
 */
export class Copier {
  readonly #context: ConsumerContext;
  readonly #dropped: (held: HeldDelivery) => void;
  #stopped = false;

  /** `dropped` is called for a delivery that was lost before its copy stood. */
  constructor(context: ConsumerContext, dropped: (held: HeldDelivery) => void) {
    this.#context = context;
    this.#dropped = dropped;
  }

  /** Begins again after {@link Copier.stop}. */
  start(): void {
    this.#stopped = false;
  }

  /** No further tries; copies under way may still be confirmed. */
  stop(): void {
    this.#stopped = true;
  }

  /** `confirmed` is called once the copy stands; never if the consumer stopped before. */
  copy(
    held: HeldDelivery,
    route: Route,
    make: (context: CopyContext) => OutgoingMessage,
    confirmed: (held: HeldDelivery) => void,
    pauseMs = FIRST_PAUSE_MS,
  ): void {
    const { publishing, clock, maxDelayMs, emit, sourceName, random } = this.#context;
    held.state = "copying";
    const sent = publishing.sendCopy(route, make({ now: clock.now(), maxDelayMs }));
    const fail = (cause: unknown): void => {
      const error = isMessagingError(cause) ? cause : new MessagingError("rejected", "the copy failed", { cause });
      emit({ type: "copy-failed", source: sourceName, id: held.incoming.id, error });
      if (held.lost) this.#dropped(held);
      else if (!this.#stopped) held.rest = clock.schedule(again, pauseMs * (1 + random.fraction()));
    };
    const again = (): void => {
      held.rest = undefined;
      if (!this.#stopped) this.copy(held, route, make, confirmed, Math.min(pauseMs * 2, LONGEST_PAUSE_MS));
    };
    sent.then(() => confirmed(held), fail);
  }
}

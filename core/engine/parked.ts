import type { ConsumerContext } from "./consumer-context.ts";
import type { CopyRefusal } from "./copy-refusal.ts";
import type { ConsumerHealth } from "./health.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";

const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 600_000;

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
    const pauseMs = before === undefined ? FIRST_PAUSE_MS : Math.min(before.pauseMs * 2, LONGEST_PAUSE_MS);
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

import { Fifo } from "./fifo.ts";
import type { HeldDelivery } from "./held-delivery.ts";

/**
 * What does not wait in the lanes: suspects, which run beside everything else, and what could not be moved to the
 * suspects, which runs with nothing beside it, so that a death is its own.
 */
export class Apart {
  readonly #suspects = new Fifo<HeldDelivery>();
  readonly #alone = new Fifo<HeldDelivery>();
  #runningAlone: HeldDelivery | undefined;

  /** It starts as soon as it can: there is never more than one of the suspects. */
  addSuspect(held: HeldDelivery): void {
    this.#suspects.push(held);
  }

  addAlone(held: HeldDelivery): void {
    held.alone = true;
    this.#alone.push(held);
  }

  /** Whether everything else has to wait. */
  get isReserved(): boolean {
    return this.#runningAlone !== undefined || first(this.#alone) !== undefined;
  }

  /** The next that may start while so many handlers run. */
  take(running: number): HeldDelivery | undefined {
    if (!this.isReserved) {
      const suspect = first(this.#suspects);
      if (suspect !== undefined) this.#suspects.shift();
      return suspect;
    }
    if (running > 0) return undefined;
    this.#runningAlone = this.#alone.shift();
    return this.#runningAlone;
  }

  /** An attempt is over. */
  ended(held: HeldDelivery): void {
    if (this.#runningAlone === held) this.#runningAlone = undefined;
  }

  clear(): void {
    this.#suspects.clear();
    this.#alone.clear();
  }
}

/** The first that was neither lost nor given back meanwhile. */
function first(waiting: Fifo<HeldDelivery>): HeldDelivery | undefined {
  for (let held = waiting.peek(); held !== undefined; held = waiting.peek()) {
    if (held.state === "waiting" && !held.lost) return held;
    waiting.shift();
  }
  return undefined;
}

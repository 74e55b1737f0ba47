import type { Receiver, Settlement } from "../../../core/adapter.ts";
import { afterCurrentTurn } from "../../../core/clock.ts";
import type { HeldRecord } from "../consuming/contract.ts";

/** Gathers what is settled within one turn into one call. */
export class Settling {
  #consumer: Receiver | undefined;
  #batch: Settlement[] = [];
  #underWay = 0;
  #isScheduled = false;
  readonly #waiting: (() => void)[] = [];

  open(consumer: Receiver): void {
    this.#consumer = consumer;
    if (this.#batch.length > 0) this.#schedule();
  }

  settle(token: HeldRecord, action: Settlement["action"]): void {
    this.#batch.push({ token, action });
    this.#schedule();
  }

  /** Resolves when nothing waits or is under way and the condition holds. */
  async idle(condition: () => boolean): Promise<void> {
    while (this.#batch.length > 0 || this.#underWay > 0 || !condition()) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Looks again whether a condition holds that somebody waits for. */
  check(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#consumer === undefined) return;
    this.#isScheduled = true;
    afterCurrentTurn(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    this.#isScheduled = false;
    const batch = this.#batch;
    this.#batch = [];
    this.#underWay++;
    // What was not ours any more comes again elsewhere, and is sent twice; nothing can be done about it here.
    await this.#consumer?.settle(batch);
    this.#underWay--;
    this.check();
  }
}

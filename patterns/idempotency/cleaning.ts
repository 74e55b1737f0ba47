import type { GuardedStore } from "./guarded-store.ts";
import type { Settings } from "./options.ts";

/** Cleans a store now and then, beside the handlers: a bounded piece at a time, one at once. */
export class Cleaning {
  readonly #settings: Settings;
  #cleaning = false;
  #dueAt: number;

  constructor(settings: Settings) {
    this.#settings = settings;
    // Processes that start together do not clean together.
    this.#dueAt = settings.clock.monotonic() + (settings.clean?.everyMs ?? 0) * Math.random();
  }

  /** Something was completed: cleans if it is time to. */
  completed(store: GuardedStore): void {
    const { clean, clock } = this.#settings;
    if (clean === undefined || this.#cleaning || clock.monotonic() < this.#dueAt) return;
    void this.#clean(store, clean);
  }

  async #clean(store: GuardedStore, { everyMs, limit }: NonNullable<Settings["clean"]>): Promise<void> {
    this.#cleaning = true;
    const answer = await store.clean(limit);
    const isMore = "value" in answer && answer.value >= limit;
    this.#dueAt = this.#settings.clock.monotonic() + (isMore ? 0 : everyMs);
    this.#cleaning = false;
  }
}

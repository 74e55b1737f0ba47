import type { InboxSettings } from "./inbox-options.ts";
import type { InboxStore } from "./inbox-store.ts";

/**
 * How much longer than their retention rows are kept: what a message's age is counted from is the time of day of the
 * machine that published it, and the rows' is the database's.
 */
const CLOCKS_DIFFER_MS = 60 * 60 * 1_000;

/** Cleans an inbox now and then, beside the handlers: a bounded piece at a time, one at once. */
export class InboxCleaning {
  readonly #store: Pick<InboxStore<unknown>, "clean">;
  readonly #settings: InboxSettings;
  #cleaning = false;
  #dueAt: number;

  constructor(store: Pick<InboxStore<unknown>, "clean">, settings: InboxSettings) {
    this.#store = store;
    this.#settings = settings;
    // Processes that start together do not clean together.
    this.#dueAt = settings.clock.monotonic() + (settings.clean?.everyMs ?? 0) * Math.random();
  }

  /** Something was committed: cleans if it is time to. Failures go to `failed`. */
  committed(consumer: string, failed: (error: unknown) => void): void {
    const { clean, clock } = this.#settings;
    if (clean === undefined || this.#cleaning || clock.monotonic() < this.#dueAt) return;
    this.#cleaning = true;
    void this.#clean(consumer, clean).catch(failed);
  }

  async #clean(consumer: string, { everyMs, limit }: NonNullable<InboxSettings["clean"]>): Promise<void> {
    const { retentionMs, clock } = this.#settings;
    let pauseMs = everyMs;
    try {
      const removed = await this.#store.clean(consumer, retentionMs + CLOCKS_DIFFER_MS, limit);
      if (removed >= limit) pauseMs = 0;
    } finally {
      this.#dueAt = clock.monotonic() + pauseMs;
      this.#cleaning = false;
    }
  }
}

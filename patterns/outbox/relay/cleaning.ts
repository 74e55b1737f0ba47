import type { RelaySettings } from "../relay-options.ts";
import { Alarm } from "./alarm.ts";
import type { StoreCalls } from "./store-calls.ts";

/** Removes rows that were sent and whose time of keeping is over: a bounded number at a time, beside the sending. */
export class Cleaning {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #alarm: Alarm;
  #stopped = false;

  constructor(settings: RelaySettings, calls: StoreCalls) {
    this.#settings = settings;
    this.#calls = calls;
    this.#alarm = new Alarm(settings.internals.clock);
  }

  stop(): void {
    this.#stopped = true;
    this.#alarm.ring();
  }

  /** Resolves at the stop. */
  async run(): Promise<void> {
    const { clean, internals } = this.#settings;
    if (clean === undefined) return;
    // Relays that start together do not clean together.
    let restMs = clean.everyMs * internals.random.fraction();
    while (!this.#stopped) {
      await this.#alarm.sleep(restMs);
      if (this.#stopped) return;
      const answer = await this.#calls.clean(clean.limit);
      restMs = "value" in answer && answer.value >= clean.limit ? 0 : clean.everyMs;
    }
  }
}

import type { Clock, Timer } from "../clock.ts";
import type { ConsumerEngine } from "./consuming.ts";

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/** Starts a consumer, and tries again with growing pauses, until it runs or is stopped. */
export class StartKeeper {
  readonly #consumer: ConsumerEngine;
  readonly #clock: Clock;
  readonly #prepare: () => Promise<void>;
  readonly #ended: () => void;
  #timer: Timer | undefined;
  #stopped = false;

  /** `prepare` is done before each try; `ended` is called once it runs, or is not to. */
  constructor(consumer: ConsumerEngine, clock: Clock, prepare: () => Promise<void>, ended: () => void) {
    this.#consumer = consumer;
    this.#clock = clock;
    this.#prepare = prepare;
    this.#ended = ended;
  }

  begin(pauseMs = FIRST_PAUSE_MS): void {
    this.#try().then(this.#ended, (error: unknown) => {
      if (this.#over()) {
        this.#ended();
        return;
      }
      this.#consumer.stall(error);
      const longer = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      this.#timer = this.#clock.schedule(() => this.begin(longer), pauseMs);
    });
  }

  async #try(): Promise<void> {
    if (this.#over()) return;
    await this.#prepare();
    if (!this.#over()) await this.#consumer.start();
  }

  #over(): boolean {
    return this.#stopped || this.#consumer.ended;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
  }
}

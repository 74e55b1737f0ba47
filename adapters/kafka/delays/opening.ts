import type { Clock, Random, Timer } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { RETRY } from "./backoff.ts";

/** Opens something, and tries until it can or is told to stop. */
export class Opening<Opened> {
  /** Resolves with what was opened; undefined if it was stopped before. */
  readonly opened: Promise<Opened | undefined>;
  readonly #clock: Clock;
  readonly #random: Pick<Random, "fraction">;
  #isStopped = false;
  #pause: { readonly timer: Timer; readonly end: () => void } | undefined;

  constructor(
    clock: Clock,
    random: Pick<Random, "fraction">,
    open: () => Promise<Opened>,
    failed: (cause: unknown) => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.opened = this.#try(open, failed);
  }

  /** No further try; one under way may still succeed. */
  stop(): void {
    this.#isStopped = true;
    if (this.#pause === undefined) return;
    this.#clock.cancel(this.#pause.timer);
    this.#pause.end();
  }

  async #try(open: () => Promise<Opened>, failed: (cause: unknown) => void): Promise<Opened | undefined> {
    for (let failures = 1; !this.#isStopped; failures++) {
      try {
        return await open();
      } catch (cause) {
        failed(cause);
      }
      if (this.#isStopped) break;
      await new Promise<void>((end) => {
        const timer = this.#clock.schedule(end, backoffMs(failures, RETRY, this.#random));
        this.#pause = { timer, end };
      });
      this.#pause = undefined;
    }
    return undefined;
  }
}

import type { WorkAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { isMessagingError, type MessagingErrorCode } from "../../core/errors.ts";

/** Between two looks. */
const FIRST_LOOK_MS = 100;
const LONGEST_LOOK_MS = 2_000;
/** How often a broker that does not count exactly has to say that nothing is left. */
const LOOKS_WHERE_INEXACT = 3;
/** What another look would meet as well. */
const NEVER_TOLD: readonly MessagingErrorCode[] = ["unauthorized", "not-found", "unsupported"];

/**
 * Tells when everything is handled that stands at an address when it is made: nothing stands there any more, or as much has
 * gone since. That is known where messages go in the order in which they came, as far as the broker counts.
 */
export class Backlog {
  readonly #internals: BrokerInternals;
  readonly #of: WorkAddress;
  #atFirst: number | undefined;
  #last = 0;
  #gone = 0;
  #empty = 0;
  #everyMs = FIRST_LOOK_MS;
  #nextLook: number;

  constructor(internals: BrokerInternals, of: WorkAddress) {
    this.#internals = internals;
    this.#of = of;
    this.#nextLook = internals.clock.monotonic();
  }

  /**
   * Looks, unless it did a moment ago. `untold`: the broker does not tell what consumers hold, or may not be asked: more is not
   * going to be known.
   */
  async look(): Promise<"waits" | "handled" | "untold"> {
    const { adapter, clock } = this.#internals;
    const now = clock.monotonic();
    if (now < this.#nextLook) return "waits";
    this.#nextLook = now + this.#everyMs;
    this.#everyMs = Math.min(this.#everyMs * 2, LONGEST_LOOK_MS);
    try {
      const { ready, unsettled = 0, consumers = 0, exact } = await adapter.depth(this.#of);
      const standing = ready + unsettled;
      this.#atFirst ??= standing;
      this.#gone += Math.max(this.#last - standing, 0);
      this.#last = standing;
      this.#empty = standing === 0 ? this.#empty + 1 : 0;
      const passed = this.#atFirst > 0 && this.#gone >= this.#atFirst;
      if (!passed && this.#empty < (exact ? 1 : LOOKS_WHERE_INEXACT)) return "waits";
      return consumers > 0 ? "untold" : "handled";
    } catch (error) {
      if (!isMessagingError(error)) throw error;
      return NEVER_TOLD.includes(error.code) ? "untold" : "waits";
    }
  }
}

import type { Address } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";

/** The result of one depth request. */
export interface Reading {
  /** Ready messages, and those in flight if the broker reports them, without those that the caller keeps. */
  readonly remaining: number;
  /** Whether it was empty often enough, or for long enough. */
  readonly empty: boolean;
  /** Whether messages in flight are counted. */
  readonly whole: boolean;
}

const INEXACT_READINGS = 3;

const LEASED_READINGS = 4;

/**
 * Detects that an address is empty. An exact broker must report it once. A broker that counts late, such as RabbitMQ, must
 * report it three times. A broker that estimates, such as SQS, must report it throughout `emptyForMs`.
 */
export class Emptiness {
  readonly #internals: BrokerInternals;
  readonly #address: Address;
  readonly #emptyForMs: number;
  #zeros = 0;
  #since = 0;
  #exact = true;

  constructor(internals: BrokerInternals, address: Address, emptyForMs: number) {
    this.#internals = internals;
    this.#address = address;
    this.#emptyForMs = emptyForMs;
  }

  /** The time until the next reading. */
  get everyMs(): number {
    if (this.#exact) return 20;
    return this.#isLeased ? this.#emptyForMs / LEASED_READINGS : 100;
  }

  get #isLeased(): boolean {
    return this.#internals.adapter.capabilities.lease.support !== "unsupported";
  }

  /** A message arrived or was removed: starts over. */
  reset(): void {
    this.#zeros = 0;
  }

  /** Requests the depth, and subtracts the `kept` messages of the caller. Rejects as `depth` does. */
  async read(kept = 0): Promise<Reading> {
    const { adapter, clock } = this.#internals;
    const { ready, unsettled, exact } = await adapter.depth(this.#address);
    this.#exact = exact;
    const whole = unsettled !== undefined;
    const remaining = Math.max(ready + (unsettled ?? 0) - kept, 0);
    if (remaining > 0) {
      this.#zeros = 0;
      return { remaining, empty: false, whole };
    }
    if (this.#zeros++ === 0) this.#since = clock.monotonic();
    const lasted = clock.monotonic() - this.#since;
    const empty = exact || (this.#isLeased ? lasted >= this.#emptyForMs : this.#zeros >= INEXACT_READINGS);
    return { remaining, empty, whole };
  }
}

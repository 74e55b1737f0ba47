import type { Address } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";

/** A reading of an address, and how often in a row nothing stood there. */
export interface Reading {
  /** Ready and, where the broker tells, unsettled ones; without what the asker itself keeps. */
  readonly remaining: number;
  /** Whether it was empty often enough to be believed. */
  readonly empty: boolean;
  /** Whether what is unsettled is counted. */
  readonly whole: boolean;
}

const TOLD_LATE_READINGS = 3;

const LEASED_READINGS = 4;

/**
 * Tells whether nothing stands at an address. A broker that counts exactly is believed at once; one that counts late, such as
 * RabbitMQ, when it says so three times; one that estimates over several places, such as SQS, when it says so all through
 * `emptyForMs`.
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

  /** How long to wait before the next reading. */
  get everyMs(): number {
    if (this.#exact) return 20;
    return this.#isLeased ? this.#emptyForMs / LEASED_READINGS : 100;
  }

  get #isLeased(): boolean {
    return this.#internals.adapter.capabilities.lease.support !== "unsupported";
  }

  /** Something came or went: what was seen before does not count. */
  disturbed(): void {
    this.#zeros = 0;
  }

  /** `kept` messages are the asker's own, and stay. Rejects as `depth` does. */
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
    const empty = exact || (this.#isLeased ? lasted >= this.#emptyForMs : this.#zeros >= TOLD_LATE_READINGS);
    return { remaining, empty, whole };
  }
}

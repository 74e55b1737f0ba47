import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { Holder } from "./holder.ts";

/** How long nothing has to come before the broker is asked, and how often it has to say that nothing is left. */
interface Proof {
  readonly waitMs: number;
  readonly times: number;
}

const EXACT: Proof = { waitMs: 20, times: 1 };
const TOLD_LATE: Proof = { waitMs: 100, times: 3 };
/** Brokers with leases answer from one of many places, and may hand out nothing though something stands there. */
const APPROXIMATE: Proof = { waitMs: 500, times: 4 };
/** For so long is waited for what others may hold where the broker says nothing of it. */
const UNTOLD_MS = 2_000;
/** For so long a consumer that has left may be counted. */
const LEAVING_MS = 1_000;

/**
 * Tells when nothing more will come to a holder: nothing came for a while, and the broker says, as often as its word asks
 * for, that nothing is left to hand out. What others hold is waited for within the patience.
 */
export class Stillness {
  readonly #internals: BrokerInternals;
  readonly #address: DeadLettersAddress;
  readonly #holder: Holder;
  readonly #patienceMs: number;
  readonly #othersMs: number;
  #elsewhere: number | null = 0;
  #since: number;
  #said = 0;
  #proof: Proof | undefined;

  /** `othersMs` is the patience with what others hold. */
  constructor(
    internals: BrokerInternals,
    address: DeadLettersAddress,
    holder: Holder,
    patienceMs: number,
    othersMs = patienceMs,
  ) {
    this.#internals = internals;
    this.#address = address;
    this.#holder = holder;
    this.#patienceMs = patienceMs;
    this.#othersMs = Math.min(othersMs, patienceMs);
    this.#since = internals.clock.monotonic();
  }

  /** For how long to wait for something before {@link reached} is asked. */
  get waitMs(): number {
    return (this.#proof ?? (this.#holder.leased ? APPROXIMATE : EXACT)).waitMs;
  }

  /**
   * How many others held when the broker was asked last; null where others are there and the broker does not tell how many
   * they hold.
   */
  get elsewhere(): number | null {
    return this.#elsewhere;
  }

  /** Something came. */
  disturbed(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#said = 0;
  }

  /**
   * `all`: nothing is left, and nobody else is known to hold any. `others`: others hold what is left, and patience is over.
   * `untold`: as `all`, where the broker does not say what others hold, and some are `missing` that were there before.
   */
  async reached(missing = false): Promise<"no" | "all" | "others" | "untold"> {
    const { adapter, clock } = this.#internals;
    const { ready, unsettled, consumers, exact } = await adapter.depth(this.#address);
    this.#proof = exact ? EXACT : this.#holder.leased ? APPROXIMATE : TOLD_LATE;
    if (ready > 0) this.#said = 0;
    else this.#said++;
    const silentMs = clock.monotonic() - this.#since;
    const elsewhere = unsettled !== undefined && unsettled > this.#holder.held;
    const othersConsume = consumers !== undefined && consumers > this.#holder.consumers;
    if (unsettled !== undefined) this.#elsewhere = Math.max(unsettled - this.#holder.held, 0);
    else this.#elsewhere = othersConsume ? null : 0;
    if (ready === 0 && !elsewhere && this.#said >= this.#proof.times) {
      // Where the broker does not say what others hold, what is missing may be with them for a while yet.
      const untold = missing && unsettled === undefined;
      const waitMs = untold ? UNTOLD_MS : othersConsume ? LEAVING_MS : 0;
      if (silentMs >= Math.min(waitMs, this.#patienceMs)) return untold ? "untold" : "all";
    }
    const onlyOthers = ready === 0 && elsewhere && this.#said >= this.#proof.times;
    return silentMs >= (onlyOthers ? this.#othersMs : this.#patienceMs) ? "others" : "no";
  }
}

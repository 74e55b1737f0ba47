import type { BrokerInternals } from "../../core/broker-internals.ts";
import { lookAtAll } from "./look.ts";
import type { Source } from "./source.ts";

/** Between two looks. */
const FIRST_LOOK_MS = 250;
const LONGEST_LOOK_MS = 5_000;

/** Where the broker can be read: what of the plan still stands. */
export class Standing {
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #patienceMs: number;
  readonly #signal: AbortSignal | undefined;
  #waitMs = FIRST_LOOK_MS;
  #since: number;

  constructor(internals: BrokerInternals, source: Source, patienceMs: number, signal: AbortSignal | undefined) {
    this.#internals = internals;
    this.#source = source;
    this.#patienceMs = patienceMs;
    this.#signal = signal;
    this.#since = internals.clock.monotonic();
  }

  get canLook(): boolean {
    return this.#internals.adapter.browse !== undefined;
  }

  get waitMs(): number | undefined {
    return this.canLook ? this.#waitMs : undefined;
  }

  disturbed(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#waitMs = FIRST_LOOK_MS;
  }

  /** Tells which do not stand any more; `held` when the others have not come for too long. */
  async look(pending: Iterable<string>, gone: (id: string) => void): Promise<"held" | "wait"> {
    const patienceMs = this.#patienceMs;
    const left = new Set(pending);
    const options = { patienceMs, ...(this.#signal === undefined ? {} : { signal: this.#signal }) };
    try {
      await lookAtAll(this.#internals, this.#source, options, (letter) => void left.delete(letter.id));
    } catch (error) {
      if (this.#signal?.aborted) return "wait";
      throw error;
    }
    for (const id of left) gone(id);
    this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_LOOK_MS);
    return this.#internals.clock.monotonic() - this.#since > patienceMs ? "held" : "wait";
  }
}

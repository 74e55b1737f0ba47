import type { MessagingErrorCode } from "../../core/errors.ts";
import type { Prng } from "./prng.ts";
import type { Variant } from "./variant.ts";

/** What the network does to requests, by seed; nothing any more once healed. */
export class Faults {
  readonly #prng: Prng;
  readonly #network: boolean;
  #healed = false;
  /** Copies (to retry or dead letters) are refused with this while it is set. */
  refusesCopies: MessagingErrorCode | undefined = undefined;

  constructor(prng: Prng, variant: Variant) {
    this.#prng = prng;
    this.#network = variant.profile === "network" || variant.profile === "everything";
  }

  heal(): void {
    this.#healed = true;
    this.refusesCopies = undefined;
  }

  get #bad(): boolean {
    return this.#network && !this.#healed;
  }

  /** How long a message needs from here to there. Below {@link LONGEST_LATENCY_MS}. */
  latency(): number {
    return this.#prng.between(0, this.#prng.chance(0.05) ? LONGEST_LATENCY_MS - 1 : 5);
  }

  /** A request is dropped before the broker sees it, or its answer afterwards. */
  drop(): "before" | "after" | undefined {
    if (!this.#bad || !this.#prng.chance(0.12)) return undefined;
    return this.#prng.pick(["before", "after"]);
  }

  /** An answer comes much later. */
  lateness(): number {
    return this.#bad && this.#prng.chance(0.05) ? this.#prng.between(1_000, 40_000) : 0;
  }

  refuses(): boolean {
    return this.#bad && this.#prng.chance(0.02);
  }

  openFails(): boolean {
    return this.#bad && this.#prng.chance(0.15);
  }

  extensionFails(): boolean {
    return this.#bad && this.#prng.chance(0.4);
  }

  /** What a cut does to a request on its way: it arrives, it is gone, or it arrives all the same some time later. */
  onTheWire(ordered: boolean): "arrives" | "gone" | "late" {
    // An answered deadline lets the next message of a key go, and one that comes late would overtake it.
    return this.#prng.pick(ordered ? ["arrives", "gone"] : ["arrives", "gone", "late"]);
  }

  shuffle<Item>(items: readonly Item[]): Item[] {
    const shuffled = [...items];
    for (let index = shuffled.length - 1; index > 0; index--) {
      const other = this.#prng.between(0, index);
      [shuffled[index], shuffled[other]] = [shuffled[other] as Item, shuffled[index] as Item];
    }
    return shuffled;
  }
}

export const LONGEST_LATENCY_MS = 40;

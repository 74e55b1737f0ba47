/** The first prefetch, until something is known of the sizes of bodies. */
const FIRST = 64;
/** How much one body counts in the mean. */
const WEIGHT = 1 / 64;

/** How many messages may be in hand, bounded in number and in bytes. */
export class BridgePrefetch {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #meanBytes: number | undefined;

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  /** One arrived. */
  arrived(bytes: number): void {
    const before = this.#meanBytes ?? bytes;
    // A larger one counts at once, smaller ones by and by.
    this.#meanBytes = bytes > before ? bytes : before + (bytes - before) * WEIGHT;
  }

  /** Of those not `kept` for good. */
  size(kept: number): number {
    const most =
      this.#meanBytes === undefined ? FIRST : Math.max(1, Math.floor(this.#maxBytes / (this.#meanBytes + 1)));
    return kept + Math.min(this.#maxMessages, most);
  }
}

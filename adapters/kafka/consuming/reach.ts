/** How many records an idle consumer hands out without asking first. */
const LEAST_AHEAD = 16;

/**
 * How far records may be handed out, which is what stands committed: if we die, everything unfinished before it counts as
 * having been in our hands. Kept so far ahead that handing out rarely waits, and no further.
 */
export class Reach {
  /** What is committed at the least, and at the most: while a commit is under way, or after one without an answer, either. */
  #low = Number.NEGATIVE_INFINITY;
  #high: number;
  #ahead = LEAST_AHEAD;
  #handedOut = 0;
  #wanting = false;

  /** With what another one committed: until we have committed ourselves nothing may be handed out. */
  constructor(committed: number) {
    this.#high = committed;
  }

  /** Whether a record may be handed out now. */
  allows(offset: number): boolean {
    return offset < this.#low;
  }

  /** Whether certainly nothing at or above an offset would be blamed for our death. */
  endsBy(offset: number): boolean {
    return this.#high <= offset;
  }

  /** Whether {@link want} was called since a commit was last asked for. */
  get isWanted(): boolean {
    return this.#wanting;
  }

  handedOut(): void {
    this.#handedOut++;
  }

  /** Something could be handed out, were it not for the reach. */
  want(): void {
    this.#wanting = true;
  }

  /** How far to go ahead in the next commit, for so large a prefetch. Learns from what was handed out since the last. */
  ahead(prefetch: number): number {
    const since = this.#handedOut * 2;
    this.#ahead = Math.max(since, this.#wanting ? this.#ahead * 4 : this.#ahead >> 1, LEAST_AHEAD);
    this.#ahead = Math.min(this.#ahead, Math.max(prefetch, 1));
    this.#handedOut = 0;
    return this.#ahead;
  }

  /** Whether far more than a moment's worth would be blamed, with nothing handed out for a while. */
  isIdle(handedOutTo: number): boolean {
    return this.#handedOut === 0 && this.#high > handedOutTo + LEAST_AHEAD;
  }

  /** Goes ahead as little as can be, from the next commit on. */
  rest(): void {
    this.#ahead = LEAST_AHEAD;
  }

  asked(reach: number): void {
    this.#low = Math.min(this.#low, reach);
    this.#high = Math.max(this.#high, reach);
    this.#wanting = false;
  }

  confirmed(reach: number): void {
    this.#low = reach;
    this.#high = reach;
  }
}

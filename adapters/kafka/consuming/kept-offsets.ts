/**
 * From where on the records of a partition have to stay, finished or not, because dead letters refer to them. A reference
 * counts from before it is written. Whether it still stands is only known from the dead letters themselves, which are read
 * through now and then: a review.
 */
export class KeptOffsets {
  #lowest: number | undefined;
  /** References that are being written. */
  readonly #underWay = new Map<number, number>();
  /** References that a review which is under way may not see. */
  #unseen: Set<number> | undefined;

  /** With what was committed. */
  constructor(lowest: number | undefined) {
    this.#lowest = lowest;
  }

  /** Undefined where nothing has to stay. */
  get lowest(): number | undefined {
    return this.#lowest;
  }

  /** A reference to an offset is about to be written; the result is to be called when that ended, in whatever way. */
  keep(offset: number): () => void {
    this.#lowest = Math.min(this.#lowest ?? offset, offset);
    this.#unseen?.add(offset);
    this.#underWay.set(offset, (this.#underWay.get(offset) ?? 0) + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = (this.#underWay.get(offset) ?? 1) - 1;
      if (left > 0) this.#underWay.set(offset, left);
      else this.#underWay.delete(offset);
    };
  }

  /** The dead letters are about to be read through. */
  beginReview(): void {
    this.#unseen = new Set(this.#underWay.keys());
  }

  /** They were read through; `found` is the lowest offset that any refers to. Returns whether the lowest has changed. */
  endReview(found: number | undefined): boolean {
    if (this.#unseen === undefined) return false;
    const all = [...(found === undefined ? [] : [found]), ...this.#unseen];
    this.#unseen = undefined;
    const before = this.#lowest;
    this.#lowest = all.length === 0 ? undefined : Math.min(...all);
    return this.#lowest !== before;
  }

  /** They could not be read through. */
  failReview(): void {
    this.#unseen = undefined;
  }
}

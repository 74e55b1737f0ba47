import type { FetchedPartition } from "../port.ts";
import { Malformed } from "./byte-reader.ts";

type Aborted = FetchedPartition["abortedTransactions"];

const ABORT = 0;

/** Tells, going through a log in order, which batches belong to transactions that were aborted. */
export class AbortedTransactions {
  /** By their first offsets, the latest first. */
  readonly #coming: { readonly producerId: bigint; readonly firstOffset: number }[];
  readonly #open = new Set<bigint>();

  constructor(aborted: Aborted) {
    this.#coming = aborted.length === 0 ? [] : [...aborted].sort((a, b) => b.firstOffset - a.firstOffset);
  }

  /** Whether there can be none from here on. */
  get isEmpty(): boolean {
    return this.#coming.length === 0 && this.#open.size === 0;
  }

  /** Goes on to a batch that ends with an offset. */
  reach(lastOffset: number): void {
    for (
      let next = this.#coming.at(-1);
      next !== undefined && next.firstOffset <= lastOffset;
      next = this.#coming.at(-1)
    ) {
      this.#open.add(next.producerId);
      this.#coming.pop();
    }
  }

  /** Whether transactional records of a producer are aborted here. */
  has(producerId: bigint): boolean {
    return this.#open.has(producerId);
  }

  /** Takes the key of a control record. */
  end(producerId: bigint, key: Buffer | undefined): void {
    if (key === undefined || key.length < 4) throw new Malformed("a control record has no type");
    if (key.readInt16BE(2) === ABORT) this.#open.delete(producerId);
  }
}

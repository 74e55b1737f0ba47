import type { Clock } from "../../../core/clock.ts";
import { type OwnedPartition, partitionKey } from "./owned-partition.ts";
import type { OwnedPartitions } from "./owned-partitions.ts";

/** The lowest offset that dead letters refer to, by {@link partitionKey}. Reads all dead letters; rejects if it cannot. */
export type References = () => Promise<ReadonlyMap<string, number>>;

/** What reviewing takes. */
export interface ReviewParts {
  readonly clock: Clock;
  readonly partitions: OwnedPartitions;
  readonly references: References;
  readonly everyMs: number;
  /** Less has to stay than before: worth a commit. */
  changed(): void;
}

/**
 * Finds out now and then which records still have to stay for the dead letters that refer to them. Reads nothing while
 * there are none.
 */
export class Reviews {
  readonly #parts: ReviewParts;
  #lastAt: number;
  #isUnderWay = false;

  constructor(parts: ReviewParts) {
    this.#parts = parts;
    this.#lastAt = parts.clock.monotonic();
  }

  /** Begins one if it is time for it, and anything has to stay. */
  check(): void {
    const { clock, partitions, everyMs } = this.#parts;
    if (this.#isUnderWay || clock.monotonic() - this.#lastAt < everyMs) return;
    const keeping = partitions.all.filter(({ ledger }) => ledger.kept.lowest !== undefined);
    if (keeping.length === 0) return;
    this.#isUnderWay = true;
    for (const { ledger } of keeping) ledger.kept.beginReview();
    this.#parts.references().then(
      (references) => this.#end(keeping, references),
      () => {
        for (const { ledger } of keeping) ledger.kept.failReview();
        this.#over();
      },
    );
  }

  #end(keeping: readonly OwnedPartition[], references: ReadonlyMap<string, number>): void {
    let hasChanged = false;
    for (const partition of keeping) {
      if (!partition.ledger.kept.endReview(references.get(partitionKey(partition)))) continue;
      partition.urgent = true;
      hasChanged = true;
    }
    this.#over();
    if (hasChanged) this.#parts.changed();
  }

  #over(): void {
    this.#isUnderWay = false;
    this.#lastAt = this.#parts.clock.monotonic();
  }
}

import type { Random } from "../../../core/clock.ts";
import { murmur2 } from "./murmur2.ts";

/** The partition of a key, the same as Kafka's Java client and kafkajs choose. */
export function partitionOfKey(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

/** Deals out records without a key: run after run, in turn over the partitions that can take one best. */
export class Dealer {
  readonly #random: Random;
  #turn: number | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  /**
   * The partition for the next run. `fitness` tells how well one can take it, at best 2; of the fittest, the one whose
   * turn is next.
   */
  next(partitions: number, fitness: (partition: number) => number): number {
    // Not the same for every process, or lone messages of many would meet in one partition.
    this.#turn ??= Math.floor(this.#random.fraction() * partitions);
    let best = this.#turn % partitions;
    let bestFitness = Number.NEGATIVE_INFINITY;
    for (let step = 0; step < partitions && bestFitness < BEST; step++) {
      const partition = (this.#turn + step) % partitions;
      const fit = fitness(partition);
      if (fit <= bestFitness) continue;
      best = partition;
      bestFitness = fit;
    }
    this.#turn = (best + 1) % partitions;
    return best;
  }
}

const BEST = 2;

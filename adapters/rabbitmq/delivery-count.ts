import type { ConsumeMessage } from "amqplib";
import type { ServerVersion } from "./server-version.ts";

/**
 * How often a queue delivered a message before, in vain. Only quorum queues count, in the header `x-delivery-count`, and
 * they write it at redeliveries alone: at a first delivery the header is the sender's, as that of a shovel is, which
 * copies the count of another queue. Classic queues never write it.
 */
export class DeliveryCount {
  readonly #countsAcquisitions: boolean;
  #isQuorum: boolean;

  constructor(version: ServerVersion, isQuorum: boolean) {
    this.#countsAcquisitions = version.atLeast(4, 3);
    this.#isQuorum = isQuorum;
  }

  /** Whether the queue counts, as far as is known. */
  get isQuorum(): boolean {
    return this.#isQuorum;
  }

  of({ fields, properties }: ConsumeMessage): number {
    if (!fields.redelivered) return 0;
    const { "x-delivery-count": failed, "x-acquired-count": acquired } = (properties.headers ?? {}) as Counts;
    // Had a quorum queue redelivered it, there would be a count.
    if (typeof (this.#countsAcquisitions ? acquired : failed) !== "number") this.#isQuorum = false;
    if (!this.#isQuorum) return 1;
    // Only given back so far, which is no failure.
    if (typeof failed !== "number") return 0;
    // Dead-lettering and local shovels bring along the failures of another queue. Acquisitions are counted anew from the
    // second delivery on, and each failure is one.
    return this.#countsAcquisitions ? Math.min(failed, acquired as number) : failed;
  }
}

interface Counts {
  readonly "x-delivery-count"?: unknown;
  readonly "x-acquired-count"?: unknown;
}

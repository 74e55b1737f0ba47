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

  /**
   * Whether the count may be another queue's: dead-lettering and local shovels bring it along, and at the first delivery
   * it stands for the acquisitions, too. Given back once, which is no failure, the message comes with its acquisitions
   * here alone, so that a count that is this queue's is below them, and one that was brought along is not.
   */
  isDoubtful(message: ConsumeMessage): boolean {
    if (!this.#countsAcquisitions || !this.#isQuorum || !message.fields.redelivered) return false;
    const { "x-delivery-count": failed, "x-acquired-count": acquired } = countsOf(message);
    // Of a count of 1 the second delivery would tell no more.
    return typeof failed === "number" && failed === acquired && failed > 1;
  }

  of(message: ConsumeMessage): number {
    if (!message.fields.redelivered) return 0;
    const { "x-delivery-count": failed, "x-acquired-count": acquired } = countsOf(message);
    // Had a quorum queue redelivered it, there would be a count.
    if (typeof (this.#countsAcquisitions ? acquired : failed) !== "number") this.#isQuorum = false;
    if (!this.#isQuorum) return 1;
    // Only given back so far, which is no failure.
    if (typeof failed !== "number") return 0;
    // Each failure is an acquisition. Below the failures they are those here, and one of them was to learn this.
    if (this.#countsAcquisitions && (acquired as number) < failed) return (acquired as number) - 1;
    return failed;
  }
}

function countsOf({ properties }: ConsumeMessage): Counts {
  return (properties.headers ?? {}) as Counts;
}

interface Counts {
  readonly "x-delivery-count"?: unknown;
  readonly "x-acquired-count"?: unknown;
}

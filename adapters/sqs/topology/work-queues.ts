import type { Address, WorkAddress } from "../../../core/address.ts";
import type { Problems } from "./problems.ts";
import type { Queues, StandingQueue } from "./queues.ts";
import { checkRedrive, redrivePolicy } from "./redrive.ts";

/** Queues with what belongs to them: dead letters and, where messages can be set apart, suspects. */
export class WorkQueues {
  readonly #queues: Queues;
  readonly #maxReceives: number;

  constructor(queues: Queues, maxReceives: number) {
    this.#queues = queues;
    this.#maxReceives = maxReceives;
  }

  /** The queue, if it stands; whatever is wrong with it and with what belongs to it is added to `problems`. */
  async declare(
    of: WorkAddress,
    fifo: boolean,
    create: boolean,
    problems: Problems,
  ): Promise<StandingQueue | undefined> {
    const declare = (address: Address, attributes = {}) =>
      problems.collect(this.#queues.declare(address, fifo, create, attributes));
    const dead = await declare({ kind: "dead-letters", of });
    if (dead === undefined && create) {
      // Without its dead letters a queue is not made; what stands there is looked at.
      await problems.collect(this.#queues.checkOtherKind(of, fifo));
      return undefined;
    }
    const wanted = dead === undefined ? undefined : redrivePolicy(dead.arn, this.#maxReceives);
    const addresses: Address[] = fifo ? [of] : [of, { kind: "suspects", of }];
    const attributes = wanted === undefined ? {} : { RedrivePolicy: wanted };
    const standing = await Promise.all(addresses.map((address) => declare(address, attributes)));
    for (const [index, queue] of standing.entries()) {
      if (queue === undefined || wanted === undefined) continue;
      await problems.collect(checkRedrive(this.#queues, addresses[index] as Address, queue, wanted, create));
    }
    return standing[0];
  }
}

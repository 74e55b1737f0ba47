import type { Address, WorkAddress } from "../../../core/address.ts";
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

  async declare(of: WorkAddress, fifo: boolean, create: boolean): Promise<StandingQueue> {
    const apart: Address[] = fifo ? [] : [{ kind: "suspects", of }];
    const [dead] = await Promise.all([
      this.#queues.declare({ kind: "dead-letters", of }, fifo, create),
      ...apart.map((address) => this.#queues.declare(address, fifo, create)),
    ]);
    const wanted = redrivePolicy(dead?.arn ?? "", this.#maxReceives);
    const queue = await this.#queues.declare(of, fifo, create, { RedrivePolicy: wanted });
    await checkRedrive(this.#queues, of, queue, wanted, create);
    return queue;
  }
}

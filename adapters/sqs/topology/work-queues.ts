import { QUARANTINE_KEPT_MS } from "../../../core/adapter.ts";
import type { WorkAddress } from "../../../core/address.ts";
import type { Problems } from "./problems.ts";
import type { Queues, StandingQueue } from "./queues.ts";
import { checkRedrive, redrivePolicy } from "./redrive.ts";

/** Records of a quarantine log go by their age alone: it has no redrive policy, which would take what is read often. */
const LOG_ATTRIBUTES = Object.freeze({ MessageRetentionPeriod: String(QUARANTINE_KEPT_MS / 1_000) });

/** Queues with what belongs to them: dead letters and a quarantine log. */
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
    const dead = await problems.collect(this.#queues.declare({ kind: "dead-letters", of }, fifo, create));
    if (dead === undefined && create) {
      // Without its dead letters a queue is not made; what stands there is looked at.
      await problems.collect(this.#queues.checkOtherKind(of, fifo));
      return undefined;
    }
    const wanted = dead === undefined ? undefined : redrivePolicy(dead.arn, this.#maxReceives);
    const attributes = wanted === undefined ? {} : { RedrivePolicy: wanted };
    const [standing] = await Promise.all([
      problems.collect(this.#queues.declare(of, fifo, create, attributes)),
      // Nobody needs the records in order.
      problems.collect(this.#queues.declare({ kind: "quarantine", of }, false, create, LOG_ATTRIBUTES)),
    ]);
    if (standing !== undefined && wanted !== undefined) {
      await problems.collect(checkRedrive(this.#queues, of, standing, wanted, create));
    }
    return standing;
  }
}

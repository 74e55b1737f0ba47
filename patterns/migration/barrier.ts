import { type Delivery, type Outcome, postpone } from "../../core/delivery.ts";
import { ackScope, type BarrierAcks } from "./barrier-acks.ts";
import type { Barrier } from "./carried.ts";
import type { Follower } from "./follower.ts";
import type { Router, Target } from "./router.ts";
import { bucketOf, epochIn, epochOf, epochOfMove, type Side } from "./state.ts";
/** The header with the epoch in which a message was published to the new broker. */
export const EPOCH_HEADER = "x-anybroker-epoch";

const FIRST_DELAY_MS = 20;
const LATER_DELAY_MS = 250;
/** How many checks use the short delay: most keys have no messages on the old broker. */
const QUICK_CHECKS = 10;
const STORE_UNREACHABLE_MS = 500;
const MOST_UNREAD = 10_000;

/** The parts of {@link BarrierAlignment}. */
interface BarrierAlignmentParts {
  readonly follower: () => Follower;
  readonly barrierAcks: BarrierAcks;
  readonly router: Router;
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** The destination that feeds the source. */
  readonly target: Target;
}

/**
 * Keeps the order of keys in front of the handlers. A message of a key on the new broker waits until the key's barrier on
 * the old broker was handled.
 */
export class BarrierAlignment {
  readonly #parts: BarrierAlignmentParts;
  /** How often a key was checked without success. */
  readonly #checks = new Map<string, number>();

  /** Messages of epochs that this instance has not read, and whether it read the state after each arrival. */
  readonly #unread = new Map<string, () => boolean>();

  constructor(parts: BarrierAlignmentParts) {
    this.#parts = parts;
  }

  /** Handles a barrier: stores that everything before it was handled. */
  async acknowledge(side: Side, barrier: Barrier, key: string | undefined): Promise<Outcome | undefined> {
    if (key === undefined) return undefined;
    const { barrierAcks, source } = this.#parts;
    try {
      await barrierAcks.write(ackScope(side, source, key), barrier.epoch);
      return undefined;
    } catch {
      // The barrier is delivered again, and its key waits.
      return postpone({ afterMs: STORE_UNREACHABLE_MS });
    }
  }

  /** Removes the epoch header. Returns undefined if the message may be handled now. */
  admit(side: Side, delivery: Delivery): Outcome | undefined {
    const { key, headers } = delivery;
    const stamp = headers[EPOCH_HEADER];
    if (stamp === undefined) return undefined;
    delete headers[EPOCH_HEADER];
    if (side === "from" || key === undefined) return undefined;
    const { follower, barrierAcks, source, router, target } = this.#parts;
    const { state } = follower();
    const epoch = epochIn(stamp);
    if (epoch === undefined) return undefined;
    // Other instances know this epoch, and this one has not read it yet.
    if (state === undefined || epochOf(state) < epoch)
      return this.#isForged(delivery.id) ? undefined : postpone({ afterMs: FIRST_DELAY_MS });
    this.#unread.delete(delivery.id);
    const moveEpoch = epochOfMove(state.shares, epoch, bucketOf(key));
    if (moveEpoch === 0 || state.drained.from >= moveEpoch) return undefined;
    const scope = ackScope("from", source, key);
    if (barrierAcks.has(scope, moveEpoch)) {
      this.#checks.delete(scope);
      return undefined;
    }
    barrierAcks.watch(scope, moveEpoch);
    if (!follower().isDraining("from"))
      router.sendBarrier("from", target, key, delivery.routingKey, `${scope} ${moveEpoch}`);
    const checks = (this.#checks.get(scope) ?? 0) + 1;
    this.#checks.set(scope, checks);
    return postpone({ afterMs: checks <= QUICK_CHECKS ? FIRST_DELAY_MS : LATER_DELAY_MS });
  }

  /** A publisher reads an epoch before it uses it. So an epoch that a later reading does not show is forged. */
  #isForged(id: string): boolean {
    const wasReadSince = this.#unread.get(id);
    if (wasReadSince === undefined) {
      this.#unread.set(id, this.#parts.follower().readingFromNow());
      const [oldest = ""] = this.#unread.keys();
      if (this.#unread.size > MOST_UNREAD) this.#unread.delete(oldest);
      return false;
    }
    if (!wasReadSince()) return false;
    this.#unread.delete(id);
    return true;
  }
}

import { type Delivery, type Outcome, postpone } from "../../core/delivery.ts";
import { ackScope, type BarrierAcks } from "./barrier-acks.ts";
import { bucketOf } from "./buckets.ts";
import type { Barrier } from "./carried.ts";
import type { Follower } from "./follower.ts";
import type { Router, Target } from "./router.ts";
import { cameWith, epochIn, epochOf, type Side } from "./state.ts";

/** The header that says with which epoch a message was published to the new side. */
export const EPOCH_HEADER = "x-anybroker-epoch";

const FIRST_LOOK_MS = 20;
const LATER_LOOK_MS = 250;
/** So many looks are quick: most keys have no past. */
const QUICK_LOOKS = 10;
const STORE_AWAY_MS = 500;
const MOST_AHEAD = 10_000;

/** What an alignment works with. */
interface BarrierAlignmentParts {
  readonly follower: () => Follower;
  readonly barrierAcks: BarrierAcks;
  readonly router: Router;
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** Where what stands at the source is published. */
  readonly target: Target;
}

/**
 * Stands before the handlers of an ordered destination. On the new side a key waits until its past on the old one is done:
 * until the barrier that was sent behind it was handled there.
 */
export class BarrierAlignment {
  readonly #parts: BarrierAlignmentParts;
  /** How often a key was looked at in vain. */
  readonly #looks = new Map<string, number>();

  /** Messages of an epoch that was not read yet, and whether the state was read since each came. */
  readonly #ahead = new Map<string, () => boolean>();

  constructor(parts: BarrierAlignmentParts) {
    this.#parts = parts;
  }

  /** A barrier came: all that was before it is handled. */
  async passed(side: Side, barrier: Barrier, key: string | undefined): Promise<Outcome | undefined> {
    if (key === undefined) return undefined;
    const { barrierAcks, source } = this.#parts;
    try {
      await barrierAcks.write(ackScope(side, source, key), barrier.epoch);
      return undefined;
    } catch {
      // It comes again, and its key waits behind it.
      return postpone({ afterMs: STORE_AWAY_MS });
    }
  }

  /** Undefined for a message that may be handled now; takes the header off it. */
  open(side: Side, delivery: Delivery): Outcome | undefined {
    const { key, headers } = delivery;
    const stamp = headers[EPOCH_HEADER];
    if (stamp === undefined) return undefined;
    delete headers[EPOCH_HEADER];
    if (side === "from" || key === undefined) return undefined;
    const { follower, barrierAcks, source, router, target } = this.#parts;
    const { state } = follower();
    const epoch = epochIn(stamp);
    if (epoch === undefined) return undefined;
    // Others have moved on, and this instance has not read it yet.
    if (state === undefined || epochOf(state) < epoch)
      return this.#isForged(delivery.id) ? undefined : postpone({ afterMs: FIRST_LOOK_MS });
    this.#ahead.delete(delivery.id);
    const came = cameWith(state.shares, epoch, bucketOf(key));
    if (came === 0 || state.drained.from >= came) return undefined;
    const scope = ackScope("from", source, key);
    if (barrierAcks.has(scope, came)) {
      this.#looks.delete(scope);
      return undefined;
    }
    barrierAcks.want(scope, came);
    if (!follower().isQuiet("from")) router.mark("from", target, key, delivery.routingKey, `${scope} ${came}`);
    const looks = (this.#looks.get(scope) ?? 0) + 1;
    this.#looks.set(scope, looks);
    return postpone({ afterMs: looks <= QUICK_LOOKS ? FIRST_LOOK_MS : LATER_LOOK_MS });
  }

  /** Whoever publishes with an epoch has read it: what is read after its message came shows it, if there ever was one. */
  #isForged(id: string): boolean {
    const wasReadSince = this.#ahead.get(id);
    if (wasReadSince === undefined) {
      this.#ahead.set(id, this.#parts.follower().readingFromNow());
      const [oldest = ""] = this.#ahead.keys();
      if (this.#ahead.size > MOST_AHEAD) this.#ahead.delete(oldest);
      return false;
    }
    if (!wasReadSince()) return false;
    this.#ahead.delete(id);
    return true;
  }
}

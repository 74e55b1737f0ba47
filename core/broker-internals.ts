import type { Adapter, OutgoingMessage } from "./adapter.ts";
import type { Address } from "./address.ts";
import type { Broker, Receipt } from "./broker.ts";
import type { Clock, Random } from "./clock.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";
import type { BrokerEvent } from "./events.ts";

/** Where a broker object keeps its {@link BrokerInternals}. By `Symbol.for`, so that two copies of the package agree. */
export const INTERNALS = Symbol.for("anybroker.internals");

/**
 * What patterns build on and users do not see. Not exported by the package: what stands here may change with any version.
 */
export interface BrokerInternals {
  readonly adapter: Adapter;
  readonly clock: Clock;
  readonly random: Random;
  /** The codec of destinations that have none of their own. */
  readonly codec: Codec;
  /** Tells `BrokerOptions.onEvent`. Never throws. */
  emit(event: BrokerEvent): void;
  /** A fresh message id. */
  makeId(): string;
  /**
   * Sends a message as it is, checked by nobody, through the publisher engine: in batches, again under its id while the
   * outcome is unknown, in call order per key where `ordered`. Never waits for room in the publish buffer, so the caller has
   * to bound what is under way. Settles as `Publisher.send` does.
   */
  sendCopy(to: Address, ordered: boolean, message: OutgoingMessage): Promise<Receipt>;
  /** Throws `closed` while the broker object is not started. `what` is what cannot be done, for the message. */
  requireStarted(what: string): void;
}

/**
 * The internals of a broker object made by `createBroker`. Throws `invalid` for any other object, also for one that
 * wraps such a broker without passing its internals on.
 */
export function internalsOf(broker: Broker, where: string): BrokerInternals {
  const internals = (broker as Partial<{ readonly [INTERNALS]: BrokerInternals }> | null | undefined)?.[INTERNALS];
  if (internals !== undefined) return internals;
  throw new MessagingError("invalid", `${where} takes a broker made by createBroker(), and no wrapper around one`);
}

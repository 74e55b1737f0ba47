import type { Adapter, OutgoingMessage } from "./adapter.ts";
import type { Address } from "./address.ts";
import type { Broker, Receipt } from "./broker.ts";
import type { Clock, Random } from "./clock.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";
import type { BrokerEvent } from "./events.ts";

/** The key of {@link BrokerInternals} in a broker object. By `Symbol.for`, so that two copies of the package agree. */
export const INTERNALS = Symbol.for("anybroker.internals");

/** The parts of a broker object that patterns build on. Not exported by the package: any version may change them. */
export interface BrokerInternals {
  readonly adapter: Adapter;
  readonly clock: Clock;
  readonly random: Random;
  /** The codec of destinations without one. */
  readonly codec: Codec;
  /** Calls `BrokerOptions.onEvent`. Never throws. */
  emit(event: BrokerEvent): void;
  /** A fresh message id. */
  makeId(): string;
  /**
   * Sends a message without any checks through the publisher engine: in batches, again while the result is unknown, and in
   * call order per key if `ordered`. It never waits for room in the publish buffer, so the caller has to bound such sends.
   * Settles as `Publisher.send` does.
   */
  sendCopy(to: Address, ordered: boolean, message: OutgoingMessage): Promise<Receipt>;
  /**
   * A signal that is aborted when the broker object begins to stop, also if it is started again: receivers that were opened
   * before are closed then.
   */
  stopped(): AbortSignal;
  /** Throws `closed` while the broker object is not started. `what` is the refused action, for the message. */
  requireStarted(what: string): void;
}

/**
 * The internals of a broker object made by `createBroker`. Throws `invalid` for any other object, also for a wrapper
 * without the internals.
 */
export function internalsOf(broker: Broker, where: string): BrokerInternals {
  const internals = (broker as Partial<{ readonly [INTERNALS]: BrokerInternals }> | null | undefined)?.[INTERNALS];
  if (internals !== undefined) return internals;
  throw new MessagingError("invalid", `${where} takes a broker made by createBroker(), and no wrapper around one`);
}

import type { DeliverySink, DeliveryToken, IncomingMessage, Receiver, SettleResult } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { Timer } from "../../core/clock.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BridgeEnds } from "./bridge-ends.ts";
import { CallBatcher } from "./call-batcher.ts";

/** How many times a lease is renewed before it would end. */
const RENEWALS = 3;

/** The callbacks of a {@link BridgeReceiver}. */
interface BridgeReceiverEvents {
  deliver(batch: readonly IncomingMessage[]): void;
  lost(tokens: readonly DeliveryToken[] | "all"): void;
  revoke(tokens: readonly DeliveryToken[]): void;
  stalled(error: MessagingError | undefined): void;
  filtered(count: number): void;
  /** All deliveries in flight. Their leases are renewed. */
  tokens(): readonly DeliveryToken[];
}

/** The receiver at the old broker, with its leases and settlements. */
export class BridgeReceiver {
  readonly #receiver: Receiver;
  readonly #acks: CallBatcher<DeliveryToken, SettleResult>;
  readonly #events: BridgeReceiverEvents;
  readonly #internals: BrokerInternals;
  #prefetch: number;
  #renewal: Timer | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(receiver: Receiver, prefetch: number, events: BridgeReceiverEvents, internals: BrokerInternals) {
    this.#receiver = receiver;
    this.#acks = new CallBatcher(Number.POSITIVE_INFINITY, (tokens) =>
      receiver.settle(tokens.map((token) => ({ token, action: "ack" }))),
    );
    this.#events = events;
    this.#prefetch = prefetch;
    this.#internals = internals;
    this.#renewLater();
  }

  /** Rejects as `Adapter.receive` does. */
  static async open(
    internals: BrokerInternals,
    ends: BridgeEnds,
    prefetch: number,
    events: BridgeReceiverEvents,
  ): Promise<BridgeReceiver> {
    const { source, ordered, subscription } = ends;
    const sink: DeliverySink = {
      deliver: (batch) => events.deliver(batch),
      lost: (tokens) => events.lost(tokens),
      revoke: (tokens) => events.revoke(tokens),
      stalled: (cause) => events.stalled(cause),
      flowing: () => events.stalled(undefined),
      filtered: (count) => events.filtered(count),
    };
    const options = { prefetch, ordered, ...(subscription === undefined ? {} : { subscription }) };
    return new BridgeReceiver(await internals.adapter.receive(source, options, sink), prefetch, events, internals);
  }

  prefetch(count: number): void {
    if (count === this.#prefetch || this.#closed) return;
    this.#prefetch = count;
    this.#receiver.prefetch(count);
  }

  /** Never rejects. */
  ack(token: DeliveryToken): Promise<SettleResult> {
    return this.#acks.add(token);
  }

  /** Requeues. Waits for a renewal in progress, which would undo it. */
  async requeue(tokens: readonly DeliveryToken[]): Promise<void> {
    await this.#renewing;
    if (tokens.length > 0) await this.#receiver.settle(tokens.map((token) => ({ token, action: "requeue" })));
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#renewal !== undefined) this.#internals.clock.cancel(this.#renewal);
    await this.#renewing;
    await this.#receiver.close();
  }

  #renewLater(): void {
    const { leaseMs } = this.#receiver;
    if (leaseMs === undefined || this.#closed) return;
    this.#renewal = this.#internals.clock.schedule(() => {
      this.#renewing = this.#renew().then(() => this.#renewLater());
    }, leaseMs / RENEWALS);
  }

  async #renew(): Promise<void> {
    const tokens = this.#events.tokens();
    if (tokens.length === 0) return;
    const kept = await this.#receiver.extend(tokens);
    const lost = tokens.filter((_, index) => kept[index] === false);
    if (lost.length > 0) this.#events.lost(lost);
  }
}

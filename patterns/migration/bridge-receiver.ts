import type { DeliverySink, DeliveryToken, IncomingMessage, Receiver, SettleResult } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { Timer } from "../../core/clock.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BridgeEnds } from "./bridge-ends.ts";
import { Gathering } from "./gathering.ts";

/** Leases are renewed three times before they end. */
const RENEWALS = 3;

/** What an intake tells its bridge. */
interface BridgeReceiverOwner {
  deliver(batch: readonly IncomingMessage[]): void;
  lost(tokens: readonly DeliveryToken[] | "all"): void;
  revoke(tokens: readonly DeliveryToken[]): void;
  stalled(error: MessagingError | undefined): void;
  filtered(count: number): void;
  /** Everything in hand, whose leases are to be kept. */
  tokens(): readonly DeliveryToken[];
}

/** The receiver at the old broker, with its leases and settlements. */
export class BridgeReceiver {
  readonly #receiver: Receiver;
  readonly #acks: Gathering<DeliveryToken, SettleResult>;
  readonly #owner: BridgeReceiverOwner;
  readonly #internals: BrokerInternals;
  #prefetch: number;
  #renewal: Timer | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(receiver: Receiver, prefetch: number, owner: BridgeReceiverOwner, internals: BrokerInternals) {
    this.#receiver = receiver;
    this.#acks = new Gathering(Number.POSITIVE_INFINITY, (tokens) =>
      receiver.settle(tokens.map((token) => ({ token, action: "ack" }))),
    );
    this.#owner = owner;
    this.#prefetch = prefetch;
    this.#internals = internals;
    this.#renewLater();
  }

  /** Rejects as `Adapter.receive` does. */
  static async open(
    internals: BrokerInternals,
    ends: BridgeEnds,
    prefetch: number,
    owner: BridgeReceiverOwner,
  ): Promise<BridgeReceiver> {
    const { source, ordered, subscription } = ends;
    const sink: DeliverySink = {
      deliver: (batch) => owner.deliver(batch),
      lost: (tokens) => owner.lost(tokens),
      revoke: (tokens) => owner.revoke(tokens),
      stalled: (cause) => owner.stalled(cause),
      flowing: () => owner.stalled(undefined),
      filtered: (count) => owner.filtered(count),
    };
    const options = { prefetch, ordered, ...(subscription === undefined ? {} : { subscription }) };
    return new BridgeReceiver(await internals.adapter.receive(source, options, sink), prefetch, owner, internals);
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

  /** Gives back, once no renewal is under way that would undo it. */
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
    const tokens = this.#owner.tokens();
    if (tokens.length === 0) return;
    const kept = await this.#receiver.extend(tokens);
    const lost = tokens.filter((_, index) => kept[index] === false);
    if (lost.length > 0) this.#owner.lost(lost);
  }
}

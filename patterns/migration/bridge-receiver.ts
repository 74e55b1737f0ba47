import type { BrokerInternals } from "../../core/broker-internals.ts";
import { afterCurrentTurn } from "../../core/clock.ts";
import type {
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  MessagingError,
  Receiver,
  SettleResult,
  Timer,
} from "../../core/index.ts";
import type { BridgeEnds } from "./bridge-ends.ts";

/** Leases are renewed three times before they end. */
export const RENEWALS = 3;

/** What an intake tells its bridge. */
export interface BridgeReceiverOwner {
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

export const MOST_IN_FLIGHT = 4;

export interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Gathers single calls into batched ones, without a timer: what waits goes at once while few batches are in flight. */
export class Gathering<Item, Result> {
  readonly #call: (batch: readonly Item[]) => Promise<readonly Result[]>;
  readonly #most: number;
  #waiting: Waiting<Item, Result>[] = [];
  #inFlight = 0;
  #scheduled = false;

  /** `call` answers with a result for each item, in order. */
  constructor(most: number, call: (batch: readonly Item[]) => Promise<readonly Result[]>) {
    this.#most = most;
    this.#call = call;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (this.#scheduled) return;
      this.#scheduled = true;
      afterCurrentTurn(() => {
        this.#scheduled = false;
        this.#flush();
      });
    });
  }

  #flush(): void {
    while (this.#waiting.length > 0 && this.#inFlight < MOST_IN_FLIGHT) {
      const batch = this.#waiting.splice(0, this.#most);
      this.#inFlight++;
      this.#call(batch.map(({ item }) => item)).then(
        (results) => {
          for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result);
          this.#next();
        },
        (error: unknown) => {
          for (const { reject } of batch) reject(error);
          this.#next();
        },
      );
    }
  }

  #next(): void {
    this.#inFlight--;
    this.#flush();
  }
}

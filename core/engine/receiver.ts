import type {
  DeadLetterResult,
  DeliverySink,
  OutgoingMessage,
  Receiver,
  Settlement,
  SettleResult,
} from "../adapter.ts";
import type { Clock, Timer } from "../clock.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";
import { AckBatcher } from "./ackBatcher.ts";

/** Leases are renewed when a third of them has passed, so that one failed renewal loses none. */
const RENEWALS_PER_LEASE = 3;

/** What a receiver asks of its consumer. */
export interface ReceiverOwner {
  /** The deliveries whose lease is to be kept. */
  leased(): readonly InFlightDelivery[];
  leaseLost(held: InFlightDelivery): void;
  settled(held: InFlightDelivery, action: Settlement["action"], result: SettleResult): void;
}

/** One receiver of the adapter, its settlements, its leases and its prefetch. */
export class ConsumerReceiver {
  readonly #receiver: Receiver;
  readonly #ackBatcher: AckBatcher;
  readonly #owner: ReceiverOwner;
  readonly #clock: Clock;
  #prefetch: number;
  #renewal: Timer | undefined;
  #closed = false;

  private constructor(receiver: Receiver, prefetch: number, owner: ReceiverOwner, clock: Clock) {
    this.#receiver = receiver;
    this.#prefetch = prefetch;
    this.#owner = owner;
    this.#clock = clock;
    this.#ackBatcher = new AckBatcher(receiver, (held, action, result) => owner.settled(held, action, result));
    this.#renewLater();
  }

  /** Rejects as the adapter's `receive` does. Deliveries made before it resolves are kept until then. */
  static async open(
    context: ConsumerContext,
    prefetch: number,
    sink: DeliverySink,
    owner: ReceiverOwner,
  ): Promise<ConsumerReceiver> {
    const { adapter, source, subscription, ordered, clock, timeoutMs: handlerTimeoutMs } = context;
    const declared = subscription === undefined ? {} : { subscription };
    const receiver = await adapter.receive(source, { prefetch, ordered, handlerTimeoutMs, ...declared }, sink);
    return new ConsumerReceiver(receiver, prefetch, owner, clock);
  }

  get leaseMs(): number | undefined {
    return this.#receiver.leaseMs;
  }

  get prefetch(): number {
    return this.#prefetch;
  }

  setPrefetch(count: number): void {
    if (count === this.#prefetch || this.#closed) return;
    this.#prefetch = count;
    this.#receiver.prefetch(count);
  }

  settle(held: InFlightDelivery, action: Settlement["action"]): void {
    held.state = "settling";
    this.#ackBatcher.settle(held, action);
  }

  /** Has the broker itself move it to the dead letters; undefined where the broker has no means for that. */
  deadLetter(held: InFlightDelivery, letter: OutgoingMessage): Promise<DeadLetterResult> | undefined {
    return this.#receiver.deadLetter?.(held.incoming.token, letter);
  }

  /** Resolves when every settlement was answered. */
  idle(): Promise<void> {
    return this.#ackBatcher.idle();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#renewal !== undefined) this.#clock.cancel(this.#renewal);
    await this.#receiver.close();
  }

  #renewLater(): void {
    const { leaseMs } = this.#receiver;
    if (leaseMs === undefined || this.#closed) return;
    this.#renewal = this.#clock.schedule(() => {
      this.#renew().then(() => this.#renewLater());
    }, leaseMs / RENEWALS_PER_LEASE);
  }

  async #renew(): Promise<void> {
    // What waits for its settlement may wait long, where the broker refuses to be told.
    const leased = [...this.#owner.leased(), ...this.#ackBatcher.waiting];
    if (leased.length === 0) return;
    const kept = await this.#ackBatcher.extend(leased);
    leased.forEach((held, index) => {
      if (kept[index] === false) this.#owner.leaseLost(held);
    });
  }
}

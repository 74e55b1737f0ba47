import type {
  DeadLetterResult,
  DeliverySink,
  OutgoingMessage,
  Receiver,
  Settlement,
  SettleResult,
} from "../adapter.ts";
import { afterCurrentTurn, type Clock, type Timer } from "../clock.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { InFlightDelivery } from "./in-flight.ts";

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

const MOST_IN_FLIGHT = 8;

/**
 * Gathers settlements into batches by the same rule as the publisher: no timer; what is waiting goes at once while few
 * batches are in flight, otherwise it gathers. No settlement goes while leases are being extended, because an extension
 * that arrives after a requeue would undo it.
 */
export class AckBatcher {
  readonly #receiver: Receiver;
  readonly #settled: (held: InFlightDelivery, action: Settlement["action"], result: SettleResult) => void;
  #waiting: InFlightDelivery[] = [];
  #actions: Settlement[] = [];
  #inFlight = 0;
  #scheduled = false;
  #extension: Promise<void> | undefined = undefined;
  #idle: (() => void)[] = [];

  constructor(
    receiver: Receiver,
    settled: (held: InFlightDelivery, action: Settlement["action"], result: SettleResult) => void,
  ) {
    this.#receiver = receiver;
    this.#settled = settled;
  }

  /** Those that the receiver was not told of yet. */
  get waiting(): readonly InFlightDelivery[] {
    return this.#waiting;
  }

  settle(held: InFlightDelivery, action: Settlement["action"]): void {
    this.#waiting.push(held);
    this.#actions.push({ token: held.incoming.token, action });
    this.#schedule();
  }

  /** Extends leases; settlements wait until it is done. Resolves with whether each is still ours. */
  async extend(batch: readonly InFlightDelivery[]): Promise<readonly boolean[]> {
    const tokens = batch.map((held) => held.incoming.token);
    const extension = this.#receiver.extend(tokens);
    this.#extension = extension.then(
      () => {},
      () => {},
    );
    try {
      return await extension;
    } finally {
      this.#extension = undefined;
      this.#schedule();
    }
  }

  /** Resolves when nothing waits and nothing is in flight. */
  async idle(): Promise<void> {
    if (this.#waiting.length === 0 && this.#inFlight === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    afterCurrentTurn(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#extension !== undefined || this.#inFlight >= MOST_IN_FLIGHT || this.#waiting.length === 0) return;
    const batch = this.#waiting;
    const actions = this.#actions;
    this.#waiting = [];
    this.#actions = [];
    this.#inFlight++;
    const finish = (results: readonly SettleResult[]): void => {
      this.#inFlight--;
      for (let index = 0; index < batch.length; index++) {
        const action = actions[index]?.action ?? "ack";
        this.#settled(batch[index] as InFlightDelivery, action, results[index] ?? "fenced");
      }
      if (this.#waiting.length > 0) this.#schedule();
      else if (this.#inFlight === 0) {
        for (const resolve of this.#idle.splice(0)) resolve();
      }
    };
    this.#receiver.settle(actions).then(finish, () => finish([]));
  }
}

import type {
  DeadLetterResult,
  DeliverySink,
  OutgoingMessage,
  Receiver,
  Settlement,
  SettleResult,
} from "../adapter.ts";
import { afterCurrentTurn, type Timer } from "../clock.ts";
import { MessagingError } from "../errors.ts";
import { shownId } from "../foreign.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { InFlightDeliveries, InFlightDelivery } from "./in-flight.ts";

/** Leases are renewed after a third of their time, so that one failed renewal loses none. */
const RENEWALS_PER_LEASE = 3;
const MOST_IN_FLIGHT = 8;

/** Is called with what the broker answered to a settlement. */
type OnSettled = (delivery: InFlightDelivery, action: Settlement["action"], result: SettleResult) => void;

/** One receiver of the adapter, with its settlements, its leases and its prefetch. */
export class ConsumerReceiver {
  readonly #context: ConsumerContext;
  readonly #receiver: Receiver;
  readonly #ackBatcher: AckBatcher;
  readonly #inFlight: InFlightDeliveries;
  readonly #sink: DeliverySink;
  #prefetch: number;
  #renewal: Timer | undefined;
  #closed = false;

  private constructor(
    context: ConsumerContext,
    receiver: Receiver,
    inFlight: InFlightDeliveries,
    prefetch: number,
    sink: DeliverySink,
    onSettled: OnSettled,
  ) {
    this.#context = context;
    this.#receiver = receiver;
    this.#inFlight = inFlight;
    this.#prefetch = prefetch;
    this.#sink = sink;
    this.#ackBatcher = new AckBatcher(receiver, onSettled);
    this.#renewLater();
  }

  /**
   * Opens the adapter's receiver, which puts deliveries into `sink`, perhaps before this resolves. Lost leases go there
   * too: those of `inFlight` are renewed. Rejects as the adapter's `receive` does.
   */
  static async open(
    context: ConsumerContext,
    inFlight: InFlightDeliveries,
    prefetch: number,
    sink: DeliverySink,
    onSettled: OnSettled,
  ): Promise<ConsumerReceiver> {
    const { adapter, source, subscription, ordered, timeoutMs: handlerTimeoutMs } = context;
    const declared = subscription === undefined ? {} : { subscription };
    const options = { prefetch, maxPrefetch: inFlight.maxPrefetch, ordered, handlerTimeoutMs, ...declared };
    const receiver = await adapter.receive(source, options, sink);
    return new ConsumerReceiver(context, receiver, inFlight, prefetch, sink, onSettled);
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

  settle(delivery: InFlightDelivery, action: Settlement["action"]): void {
    delivery.state = "settling";
    this.#ackBatcher.settle(delivery, action);
  }

  /** Has the broker itself dead-letter the message; undefined where it cannot. */
  deadLetter(delivery: InFlightDelivery, letter: OutgoingMessage): Promise<DeadLetterResult> | undefined {
    return this.#receiver.deadLetter?.(delivery.incoming.token, letter);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#renewal !== undefined) this.#context.clock.cancel(this.#renewal);
    await this.#receiver.close();
  }

  #renewLater(): void {
    const { leaseMs } = this.#receiver;
    if (leaseMs === undefined || this.#closed) return;
    this.#renewal = this.#context.clock.schedule(() => {
      this.#renew().then(() => this.#renewLater());
    }, leaseMs / RENEWALS_PER_LEASE);
  }

  async #renew(): Promise<void> {
    // Settlements may wait long while the broker takes none.
    const leased = [...this.#inFlight.owned(), ...this.#ackBatcher.waiting];
    if (leased.length === 0) return;
    const kept = await this.#ackBatcher.extend(leased);
    for (const [index, { state, incoming }] of leased.entries()) {
      if (kept[index] !== false || state === "settled") continue;
      const what = `the lease on message ${shownId(incoming.id)} of ${this.#context.sourceName} was lost`;
      this.#sink.lost([incoming.token], new MessagingError("timeout", `${what}; it will be delivered again`));
    }
  }
}

/**
 * Gathers settlements into batches without a timer, as the publisher does: they go at once while few batches are in
 * flight, and gather otherwise. They wait while leases are extended, because a late extension would undo a requeue.
 */
export class AckBatcher {
  readonly #receiver: Receiver;
  readonly #onSettled: OnSettled;
  #waiting: InFlightDelivery[] = [];
  #actions: Settlement[] = [];
  #inFlight = 0;
  #scheduled = false;
  #extending = false;
  #idle: (() => void)[] = [];

  constructor(receiver: Receiver, onSettled: OnSettled) {
    this.#receiver = receiver;
    this.#onSettled = onSettled;
  }

  /** Deliveries whose settlement did not go to the receiver yet. */
  get waiting(): readonly InFlightDelivery[] {
    return this.#waiting;
  }

  settle(delivery: InFlightDelivery, action: Settlement["action"]): void {
    this.#waiting.push(delivery);
    this.#actions.push({ token: delivery.incoming.token, action });
    this.#schedule();
  }

  /** Extends leases; settlements wait until it is done. Resolves with whether each lease was kept. */
  async extend(batch: readonly InFlightDelivery[]): Promise<readonly boolean[]> {
    const tokens = batch.map((delivery) => delivery.incoming.token);
    this.#extending = true;
    try {
      return await this.#receiver.extend(tokens);
    } finally {
      this.#extending = false;
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
    if (this.#extending || this.#inFlight >= MOST_IN_FLIGHT || this.#waiting.length === 0) return;
    const batch = this.#waiting;
    const actions = this.#actions;
    this.#waiting = [];
    this.#actions = [];
    this.#inFlight++;
    const finish = (results: readonly SettleResult[]): void => {
      this.#inFlight--;
      for (let index = 0; index < batch.length; index++) {
        const action = actions[index]?.action ?? "ack";
        this.#onSettled(batch[index] as InFlightDelivery, action, results[index] ?? "fenced");
      }
      if (this.#waiting.length > 0) this.#schedule();
      else if (this.#inFlight === 0) {
        for (const resolve of this.#idle.splice(0)) resolve();
      }
    };
    this.#receiver.settle(actions).then(finish, () => finish([]));
  }
}

import type { Deadline, Deadlines, Expiring } from "../../core/deadlines.ts";
import {
  type DeadLetterResult,
  type DeliverySink,
  type DeliveryToken,
  type IncomingMessage,
  MessagingError,
  type OutgoingMessage,
  type ReceiveOptions,
  type Receiver,
  type Settlement,
  type SettleResult,
} from "../../core/index.ts";
import type { MemoryQueue } from "./memory-queue.ts";
import type { StoredMessage } from "./message-store.ts";

/** One delivery: the adapter's token for it, and its lease where there are leases. */
class MemoryDelivery implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly stored: StoredMessage;
  readonly #lapse: (delivery: MemoryDelivery) => void;

  constructor(stored: StoredMessage, lapse: (delivery: MemoryDelivery) => void) {
    this.stored = stored;
    this.#lapse = lapse;
  }

  expire(): void {
    this.#lapse(this);
  }
}

/** One consumer of a queue of the process. */
export class MemoryReceiver implements Receiver {
  readonly leaseMs: number | undefined;
  readonly ordered: boolean;
  readonly deadLetter?: NonNullable<Receiver["deadLetter"]>;
  readonly #queue: MemoryQueue;
  readonly #sink: DeliverySink<undefined>;
  readonly #onClosed: (receiver: MemoryReceiver) => void;
  readonly #leases: Deadlines;
  readonly #wanted: ReceiveOptions["wanted"];
  readonly #unsettled = new Set<MemoryDelivery>();
  /** What was not wanted, until the end. */
  readonly #passedOver: StoredMessage[] = [];
  #prefetch: number;
  #closed = false;

  constructor(
    queue: MemoryQueue,
    sink: DeliverySink<undefined>,
    { prefetch, ordered, wanted }: ReceiveOptions,
    leaseMs: number | undefined,
    leases: Deadlines,
    deadLetters: MemoryQueue | undefined,
    closed: (receiver: MemoryReceiver) => void,
  ) {
    this.#onClosed = closed;
    if (deadLetters !== undefined) {
      this.deadLetter = async (token, letter) => this.#move(token as MemoryDelivery, letter, deadLetters);
    }
    this.#queue = queue;
    this.#sink = sink;
    this.#prefetch = prefetch;
    this.ordered = ordered;
    this.#wanted = wanted;
    this.leaseMs = leaseMs;
    this.#leases = leases;
  }

  /** How many more deliveries it may have. */
  get room(): number {
    return this.#closed ? 0 : Math.max(this.#prefetch - this.#unsettled.size, 0);
  }

  deliver(batch: readonly StoredMessage[]): void {
    const wanted = batch.filter((stored) => {
      if (this.#wanted?.(incoming(stored, undefined)) !== false) return true;
      this.#passedOver.push(stored);
      return false;
    });
    if (wanted.length > 0) this.#sink.deliver(wanted.map((stored) => this.#hold(stored)));
  }

  #hold(stored: StoredMessage): IncomingMessage<undefined> {
    const token = new MemoryDelivery(stored, (delivery) => this.#lapse(delivery));
    this.#unsettled.add(token);
    if (this.leaseMs !== undefined) this.#leases.set(token, this.leaseMs);
    return incoming(stored, token);
  }

  /** What it has, settled by nobody yet. */
  *held(): Iterable<StoredMessage> {
    yield* this.#passedOver;
    for (const { stored } of this.#unsettled) yield stored;
  }

  #lapse(delivery: MemoryDelivery): void {
    this.#giveBack(delivery, true);
    this.#sink.lost([delivery], new MessagingError("timeout", `the lease of ${this.leaseMs} ms ran out`));
  }

  #giveBack(delivery: MemoryDelivery, counted: boolean): void {
    this.#unsettled.delete(delivery);
    this.#leases.lift(delivery);
    if (counted) delivery.stored.redeliveries++;
    this.#queue.returned(delivery.stored);
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#queue.schedule();
  }

  #move(delivery: MemoryDelivery, letter: OutgoingMessage, deadLetters: MemoryQueue): DeadLetterResult {
    if (!this.#unsettled.has(delivery)) return { status: "fenced" };
    deadLetters.put(letter);
    this.#remove(delivery);
    return { status: "settled" };
  }

  #remove(delivery: MemoryDelivery): void {
    this.#unsettled.delete(delivery);
    this.#leases.lift(delivery);
    this.#queue.removed();
    this.#queue.schedule();
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return batch.map(({ token, action }) => {
      const delivery = token as MemoryDelivery;
      if (!this.#unsettled.has(delivery)) return "fenced";
      if (action === "requeue") this.#giveBack(delivery, false);
      else this.#remove(delivery);
      return "settled";
    });
  }

  async extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return batch.map((token) => {
      const delivery = token as MemoryDelivery;
      if (!this.#unsettled.has(delivery) || this.leaseMs === undefined) return false;
      this.#leases.lift(delivery);
      this.#leases.set(delivery, this.leaseMs);
      return true;
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.detach(this);
    for (const delivery of this.#unsettled) this.#giveBack(delivery, true);
    for (const stored of this.#passedOver.splice(0)) this.#queue.returned(stored);
    this.#onClosed(this);
  }
}

/** A message that is only looked at, in the terms of the seam. */
export function shown(message: OutgoingMessage): IncomingMessage<undefined> {
  return incoming({ message, redeliveries: 0 }, undefined);
}

/** A stored message in the terms of the seam. */
export function incoming(
  { message, redeliveries }: Pick<StoredMessage, "message" | "redeliveries">,
  token: DeliveryToken,
): IncomingMessage<undefined> {
  const { id, key, routingKey, body, contentType, priority } = message;
  // The engine made these headers, without a prototype, and changes none.
  const { headers } = message;
  return { token, id, key, routingKey, headers, body, contentType, priority, redeliveries, native: undefined };
}

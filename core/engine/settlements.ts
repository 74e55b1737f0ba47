import type { DeadLetterResult, OutgoingMessage, Settlement, SettleResult } from "../adapter.ts";
import type { Counts } from "./outcomes.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { InFlightDeliveries } from "./holding.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";
import type { ConsumerReceiver } from "./receiver.ts";
import type { DeliveryQueue } from "./queues.ts";
import type { ParkedDeliveries } from "./parked.ts";
import type { Quarantine } from "./quarantine.ts";

/** What deliveries leave behind when they go. */
export interface SettlementsParts {
  readonly queues: DeliveryQueue;
  readonly held: InFlightDeliveries;
  readonly parked: ParkedDeliveries;
  readonly quarantine: Quarantine;
  readonly counts: Counts;
  /** Where they came in; undefined while nothing is open. */
  readonly receiver: () => ConsumerReceiver | undefined;
  /** Something left, or is about to. */
  readonly changed: () => void;
}

/** The ways in which deliveries leave a consumer: settled, given back, moved by the broker, or lost. */
export class Settlements {
  readonly #context: Pick<ConsumerContext, "clock">;
  readonly #parts: SettlementsParts;

  constructor(context: Pick<ConsumerContext, "clock">, parts: SettlementsParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Done with, here: the broker may forget it. */
  ack(held: InFlightDelivery): void {
    // A copy that was confirmed after its original had been given back.
    if (held.isLeaving) return;
    if (held.lost) {
      this.#parts.counts.fenced++;
      this.drop(held);
    } else {
      this.#parts.queues.leave(held);
      this.#parts.receiver()?.settle(held, "ack");
    }
    this.#parts.changed();
  }

  /** There is nothing left to settle: it was lost meanwhile, or the broker has moved it. */
  dropped(held: InFlightDelivery): void {
    this.drop(held);
    this.#parts.changed();
  }

  requeue(held: InFlightDelivery): void {
    if (held.isLeaving) return;
    held.cancelRest(this.#context.clock);
    if (held.lost) {
      this.drop(held);
      return;
    }
    this.#parts.quarantine.ended(held);
    this.#parts.queues.leave(held);
    this.#parts.receiver()?.settle(held, "requeue");
  }

  /** Gives back everything that nothing is done with at present. */
  requeueIdle(): void {
    for (const held of this.#parts.held) if (held.isIdle) this.requeue(held);
  }

  /** A settlement was answered. */
  settled(held: InFlightDelivery, action: Settlement["action"], result: SettleResult): void {
    if (result === "fenced") this.#parts.counts.fenced++;
    else if (action === "requeue") this.#parts.counts.requeued++;
    this.#forget(held);
    this.#parts.changed();
  }

  /** Has the broker move it to the dead letters; undefined where it cannot. */
  deadLetter(held: InFlightDelivery, letter: OutgoingMessage): Promise<DeadLetterResult> | undefined {
    return this.#parts.receiver()?.deadLetter(held, letter);
  }

  /** It is settled already, or lost. */
  drop(held: InFlightDelivery): void {
    this.#parts.queues.leave(held);
    this.#forget(held);
  }

  dropAll(): void {
    this.#parts.queues.drain();
    for (const held of this.#parts.held) this.#forget(held);
  }

  #forget(held: InFlightDelivery): void {
    held.cancelRest(this.#context.clock);
    this.#parts.parked.remove(held);
    this.#parts.quarantine.ended(held);
    this.#parts.held.remove(held);
  }
}

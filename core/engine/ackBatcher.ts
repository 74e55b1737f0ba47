import type { Receiver, Settlement, SettleResult } from "../adapter.ts";
import { afterCurrentTurn } from "../afterCurrentTurn.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";

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

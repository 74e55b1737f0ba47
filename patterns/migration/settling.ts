import type { DeliveryToken, Receiver, Settlement, SettleResult } from "../../core/index.ts";

const MOST_IN_FLIGHT = 8;

interface Waiting {
  readonly settlement: Settlement;
  readonly done: (result: SettleResult) => void;
}

/** Gathers settlements into batches without a timer: what waits goes at once while few batches are in flight. */
export class Settling {
  readonly #receiver: Receiver;
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #scheduled = false;

  constructor(receiver: Receiver) {
    this.#receiver = receiver;
  }

  /** `done` is called once. */
  settle(token: DeliveryToken, action: Settlement["action"], done: (result: SettleResult) => void): void {
    this.#waiting.push({ settlement: { token, action }, done });
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#inFlight >= MOST_IN_FLIGHT || this.#waiting.length === 0) return;
    const batch = this.#waiting;
    this.#waiting = [];
    this.#inFlight++;
    const finish = (results: readonly SettleResult[]): void => {
      this.#inFlight--;
      for (const [index, { done }] of batch.entries()) done(results[index] ?? "fenced");
      this.#flush();
    };
    this.#receiver.settle(batch.map(({ settlement }) => settlement)).then(finish, () => finish([]));
  }
}

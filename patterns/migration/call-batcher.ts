import { afterCurrentTurn } from "../../core/clock.ts";

const MOST_IN_FLIGHT = 4;

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Batches calls without a timer: while few batches are in flight, waiting items are sent at once. */
export class CallBatcher<Item, Result> {
  readonly #call: (batch: readonly Item[]) => Promise<readonly Result[]>;
  readonly #most: number;
  #waiting: Waiting<Item, Result>[] = [];
  #inFlight = 0;
  #scheduled = false;

  /** `call` returns one result per item, in order. */
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

import type { Delivery } from "../../core/index.ts";
import type { IdempotencyStore } from "./store.ts";

/** A delivery whose signal is aborted as well when the claim on its key is lost. */
export class ClaimedDelivery implements Delivery {
  readonly #inner: Delivery;
  readonly #store: IdempotencyStore;
  readonly #key: string;
  #controller: AbortController | undefined = undefined;
  #signal: AbortSignal | undefined = undefined;
  #lost: unknown = undefined;

  constructor(inner: Delivery, store: IdempotencyStore, key: string) {
    this.#inner = inner;
    this.#store = store;
    this.#key = key;
  }

  /** Whether it is under a claim of this store on this key already. */
  isClaimed(store: IdempotencyStore, key: string): boolean {
    if (this.#store === store && this.#key === key) return true;
    return this.#inner instanceof ClaimedDelivery && this.#inner.isClaimed(store, key);
  }

  /** The claim is gone. */
  lose(reason: unknown): void {
    this.#lost = reason;
    this.#controller?.abort(reason);
  }

  /**
   * Why the handler was told to end, if it was. One that never asked for the signal was not told: its return is an end.
   */
  get told(): unknown {
    return this.#signal?.aborted === true ? this.#signal.reason : undefined;
  }

  /** Made when it is first asked for: most handlers never do. */
  get signal(): AbortSignal {
    if (this.#signal === undefined) {
      this.#controller = new AbortController();
      if (this.#lost !== undefined) this.#controller.abort(this.#lost);
      this.#signal = AbortSignal.any([this.#inner.signal, this.#controller.signal]);
    }
    return this.#signal;
  }

  get id(): string {
    return this.#inner.id;
  }

  get key(): string | undefined {
    return this.#inner.key;
  }

  get routingKey(): string | undefined {
    return this.#inner.routingKey;
  }

  get headers(): Record<string, string> {
    return this.#inner.headers;
  }

  get attempt(): number {
    return this.#inner.attempt;
  }

  get firstPublishedAt(): Date {
    return this.#inner.firstPublishedAt;
  }

  get destination(): string {
    return this.#inner.destination;
  }

  get subscription(): string | undefined {
    return this.#inner.subscription;
  }

  get deadlineAt(): Date {
    return this.#inner.deadlineAt;
  }

  get remainingMs(): number {
    return this.#inner.remainingMs;
  }

  get native(): unknown {
    return this.#inner.native;
  }
}

import type { Delivery } from "../../core/delivery.ts";
import { observe } from "../../core/foreign.ts";
import { ask, type StoreAnswer } from "../../core/stores.ts";
import type { IdempotencyEvent, Settings, StoreCall } from "./options.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

type EventOf<Type extends IdempotencyEvent["type"]> = Extract<IdempotencyEvent, { readonly type: Type }>;

/** The properties of an event besides its message. */
type EventDetails = {
  [Type in IdempotencyEvent["type"]]: Omit<EventOf<Type>, "destination" | "subscription" | "id">;
}[IdempotencyEvent["type"]];

/** One key of a store, for one message. Calls never reject, end in time, and emit their failures. */
export class GuardedStore {
  readonly #store: IdempotencyStore;
  readonly #key: string;
  readonly #settings: Settings;
  readonly #delivery: Delivery;

  constructor(store: IdempotencyStore, key: string, settings: Settings, delivery: Delivery) {
    this.#store = store;
    this.#key = key;
    this.#settings = settings;
    this.#delivery = delivery;
  }

  claim(withinMs: number): Promise<StoreAnswer<ClaimResult>> {
    const { leaseMs } = this.#settings;
    // A claim whose answer came too late would hold the message until its lease ends.
    const late = (result: ClaimResult): void => {
      if (result.status === "claimed") void this.release(result.token);
    };
    return this.#ask("claim", () => this.#store.claim(this.#key, leaseMs), withinMs, late);
  }

  renew(token: string, withinMs: number): Promise<StoreAnswer<"renewed" | "lost">> {
    const { leaseMs } = this.#settings;
    return this.#ask("renew", () => this.#store.renew(this.#key, token, leaseMs), withinMs);
  }

  complete(token: string, withinMs: number): Promise<StoreAnswer<"completed" | "lost">> {
    const { retentionMs } = this.#settings;
    return this.#ask("complete", () => this.#store.complete(this.#key, token, retentionMs), withinMs);
  }

  /** If it fails, the lease expires. */
  async release(token: string, withinMs?: number): Promise<void> {
    await this.#ask("release", () => this.#store.release(this.#key, token), withinMs);
  }

  async clean(limit: number): Promise<number> {
    const answer = await this.#ask("clean", () => this.#store.clean(limit));
    return "value" in answer ? answer.value : 0;
  }

  emit(details: EventDetails): void {
    const { onEvent } = this.#settings;
    const { destination, subscription, id } = this.#delivery;
    observe(onEvent, { destination, subscription, id, ...details } as IdempotencyEvent);
  }

  async #ask<T>(
    call: StoreCall,
    action: () => Promise<T>,
    withinMs = Number.POSITIVE_INFINITY,
    late?: (value: T) => void,
  ): Promise<StoreAnswer<T>> {
    const { clock, storeTimeoutMs } = this.#settings;
    const answer = await ask("idempotency store", clock, Math.floor(Math.min(storeTimeoutMs, withinMs)), action, late);
    if ("error" in answer) this.emit({ type: "store-failed", call, error: answer.error });
    return answer;
  }
}

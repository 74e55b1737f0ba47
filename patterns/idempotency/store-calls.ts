import { observe } from "../../core/foreign.ts";
import type { Delivery } from "../../core/index.ts";
import { ask, type StoreAnswer } from "../../core/stores.ts";
import type { IdempotencyEvent, Settings, StoreCall } from "./options.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

/** Cleans a store from time to time, beside the handlers: a limited number of records, one cleaning at a time. */
export class Cleaning {
  readonly #settings: Settings;
  #cleaning = false;
  #dueAt: number;

  constructor(settings: Settings) {
    this.#settings = settings;
    // Random, so that processes that start together do not clean together.
    this.#dueAt = settings.clock.monotonic() + (settings.clean?.everyMs ?? 0) * Math.random();
  }

  /** Cleans after a completion, if it is due. */
  completed(store: GuardedStore): void {
    const { clean, clock } = this.#settings;
    if (clean === undefined || this.#cleaning || clock.monotonic() < this.#dueAt) return;
    void this.#clean(store, clean);
  }

  async #clean(store: GuardedStore, { everyMs, limit }: NonNullable<Settings["clean"]>): Promise<void> {
    this.#cleaning = true;
    const answer = await store.clean(limit);
    const isMore = "value" in answer && answer.value >= limit;
    this.#dueAt = this.#settings.clock.monotonic() + (isMore ? 0 : everyMs);
    this.#cleaning = false;
  }
}

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

  clean(limit: number): Promise<StoreAnswer<number>> {
    return this.#ask("clean", () => this.#store.clean(limit));
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

import type { DeliveryToken, IncomingMessage } from "../adapter.ts";
import type { Clock } from "../clock.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { InFlightDelivery } from "./in-flight-delivery.ts";
import { Prefetch } from "./prefetch.ts";

/** Every delivery that a consumer holds, and the prefetch that follows from them. */
export class InFlightDeliveries {
  readonly #held = new Set<InFlightDelivery>();
  readonly #size: Prefetch;
  readonly #clock: Clock;
  readonly #concurrency: () => number;
  readonly #onExpire: (held: InFlightDelivery) => void;
  readonly #mostAside: { readonly messages: number; readonly bytes: number };
  /** Of those that count in the prefetch. */
  #bytes = 0;
  #aside = 0;
  #asideBytes = 0;
  #sequence = 0;

  /** `onExpire` is called when the deadline of an attempt has passed. */
  constructor(context: ConsumerContext, concurrency: () => number, onExpire: (held: InFlightDelivery) => void) {
    this.#concurrency = concurrency;
    this.#onExpire = onExpire;
    this.#clock = context.clock;
    this.#mostAside = { messages: context.maxParked, bytes: context.prefetchBytes };
    this.#size = new Prefetch(context.clock, context.concurrency, context.prefetchMessages, context.prefetchBytes);
  }

  get size(): number {
    return this.#held.size;
  }

  [Symbol.iterator](): Iterator<InFlightDelivery> {
    return this.#held[Symbol.iterator]();
  }

  /** How many wait for a handler, or for their next attempt. */
  waiting(): number {
    return this.#count(({ state }) => state === "waiting" || state === "resting");
  }

  quarantined(): number {
    return this.#count(({ state }) => state === "quarantined");
  }

  #count(counts: (held: InFlightDelivery) => boolean): number {
    let count = 0;
    for (const held of this.#held) if (counts(held)) count++;
    return count;
  }

  /** Whether any is being copied. */
  copying(): boolean {
    for (const { state } of this.#held) if (state === "copying") return true;
    return false;
  }

  /** Those that are still ours to settle. */
  owned(): readonly InFlightDelivery[] {
    const owned: InFlightDelivery[] = [];
    for (const held of this.#held) if (held.state !== "settling" && !held.lost) owned.push(held);
    return owned;
  }

  /** Those with these tokens, or all of them, that are still ours. */
  chosen(tokens: readonly DeliveryToken[] | "all"): readonly InFlightDelivery[] {
    const wanted = tokens === "all" ? undefined : new Set(tokens);
    return [...this.#held].filter((held) => !held.lost && (wanted?.has(held.incoming.token) ?? true));
  }

  add(incoming: IncomingMessage): InFlightDelivery {
    const held = new InFlightDelivery(incoming, this.#sequence++, this.#clock.now(), this.#onExpire);
    this.#held.add(held);
    this.#bytes += held.bytes;
    this.#size.arrived(held.bytes);
    return held;
  }

  /** Lets go of one; a second call does nothing. */
  remove(held: InFlightDelivery): void {
    if (!this.#held.delete(held)) return;
    held.state = "settled";
    this.rejoin(held);
    this.#bytes -= held.bytes;
    this.#size.finished(this.#concurrency());
  }

  /** It no longer counts in the prefetch, unless as many do not already as may. */
  setAside(held: InFlightDelivery): void {
    const { messages, bytes } = this.#mostAside;
    if (held.aside || this.#aside >= messages || this.#asideBytes + held.bytes > bytes) return;
    this.#countAside(held, 1);
  }

  /** It counts in the prefetch again. */
  rejoin(held: InFlightDelivery): void {
    if (held.aside) this.#countAside(held, -1);
  }

  #countAside(held: InFlightDelivery, by: 1 | -1): void {
    held.aside = by > 0;
    this.#aside += by;
    this.#asideBytes += by * held.bytes;
    this.#bytes -= by * held.bytes;
  }

  /** The most deliveries to hold. */
  prefetch(): number {
    return this.#size.size(this.#concurrency(), this.#bytes) + this.#aside;
  }

  /**
   * Handlers are free, and keys that wait for their turn may fill the prefetch: what the others could do would stand behind it
   * for as long, since nothing ends and nothing comes that would widen it.
   */
  widen(): void {
    for (let prefetch = this.prefetch(); this.#held.size >= prefetch; prefetch = this.prefetch()) {
      this.#size.starved();
      if (this.prefetch() <= prefetch) return;
    }
  }
}

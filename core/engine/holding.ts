import type { DeliveryToken, IncomingMessage } from "../adapter.ts";
import { type CrashLimits, crashLimits, isSuspect } from "./attempt.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import { HeldDelivery } from "./held-delivery.ts";
import { WindowSize } from "./window-size.ts";

/** Every delivery that a consumer holds, and the window that follows from them. */
export class Holding {
  /** How deaths around what is held are judged. */
  readonly limits: CrashLimits;
  readonly #held = new Set<HeldDelivery>();
  readonly #size: WindowSize;
  readonly #onExpire: (held: HeldDelivery) => void;
  #bytes = 0;
  #suspects = 0;
  #sequence = 0;

  /** `onExpire` is called when the deadline of an attempt has passed. */
  constructor(context: ConsumerContext, onExpire: (held: HeldDelivery) => void) {
    this.limits = crashLimits(context.retry.attempts, context.adapter.capabilities.lease.support !== "unsupported");
    this.#onExpire = onExpire;
    this.#size = new WindowSize(context.clock, context.concurrency, context.windowMessages, context.windowBytes);
  }

  get size(): number {
    return this.#held.size;
  }

  /** Whether something is held that ought to be set apart and, in order, cannot be. */
  get suspicious(): boolean {
    return this.#suspects > 0;
  }

  /** The one that came first of all that are held. */
  get oldest(): HeldDelivery | undefined {
    const [oldest] = this.#held;
    return oldest;
  }

  [Symbol.iterator](): Iterator<HeldDelivery> {
    return this.#held[Symbol.iterator]();
  }

  /** How many wait for a handler, or for their next attempt. */
  waiting(): number {
    let waiting = 0;
    for (const { state } of this.#held) if (state === "waiting" || state === "resting") waiting++;
    return waiting;
  }

  /** Whether any is being copied. */
  copying(): boolean {
    for (const { state } of this.#held) if (state === "copying") return true;
    return false;
  }

  /** Those chosen that are still ours to settle. */
  owned(chosen: (held: HeldDelivery) => boolean): readonly HeldDelivery[] {
    const owned: HeldDelivery[] = [];
    for (const held of this.#held) if (held.state !== "settling" && !held.lost && chosen(held)) owned.push(held);
    return owned;
  }

  /** Those with these tokens, or all of them, that came from the suspects, or did not, and are still ours. */
  chosen(tokens: readonly DeliveryToken[] | "all", suspect: boolean): readonly HeldDelivery[] {
    const wanted = tokens === "all" ? undefined : new Set(tokens);
    return [...this.#held].filter(
      (held) => held.suspect === suspect && !held.lost && (wanted?.has(held.incoming.token) ?? true),
    );
  }

  add(incoming: IncomingMessage, suspect: boolean): HeldDelivery {
    const held = new HeldDelivery(incoming, this.#sequence++, suspect, this.#held.size === 0, this.#onExpire);
    this.#held.add(held);
    this.#bytes += held.bytes;
    this.#size.arrived(held.bytes);
    if (!suspect && isSuspect(held, this.limits)) this.#suspects++;
    return held;
  }

  /** Lets go of one; a second call does nothing. */
  remove(held: HeldDelivery, concurrency: number): void {
    if (!this.#held.delete(held)) return;
    held.state = "settled";
    this.#bytes -= held.bytes;
    if (!held.suspect && isSuspect(held, this.limits)) this.#suspects--;
    this.#size.finished(concurrency);
  }

  /** The most deliveries to hold for so many handlers. */
  window(concurrency: number): number {
    return this.#size.size(concurrency, this.#bytes);
  }

  /** Handlers are free while keys that wait for their turn fill the window. */
  starved(): void {
    this.#size.starved();
  }
}

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
  readonly #concurrency: () => number;
  readonly #onExpire: (held: HeldDelivery) => void;
  readonly #mostAside: { readonly messages: number; readonly bytes: number };
  /** Of those that count in the window. */
  #bytes = 0;
  #aside = 0;
  #asideBytes = 0;
  #suspectsAside = 0;
  #suspects = 0;
  #sequence = 0;

  /** `onExpire` is called when the deadline of an attempt has passed. */
  constructor(context: ConsumerContext, concurrency: () => number, onExpire: (held: HeldDelivery) => void) {
    this.#concurrency = concurrency;
    this.limits = crashLimits(context.retry.attempts, context.adapter.capabilities.lease.support !== "unsupported");
    this.#onExpire = onExpire;
    this.#mostAside = { messages: context.maxParked, bytes: context.windowBytes };
    this.#size = new WindowSize(context.clock, context.concurrency, context.windowMessages, context.windowBytes);
  }

  get size(): number {
    return this.#held.size;
  }

  /** Whether something is held that ought to be set apart and, in order, cannot be. */
  get suspicious(): boolean {
    return this.#suspects > 0;
  }

  /** The one that came first of all that are held and not set aside. */
  get oldest(): HeldDelivery | undefined {
    for (const held of this.#held) if (!held.aside) return held;
    return undefined;
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
    const first = this.#held.size === this.#aside;
    const held = new HeldDelivery(incoming, this.#sequence++, suspect, first, this.#onExpire);
    this.#held.add(held);
    this.#bytes += held.bytes;
    this.#size.arrived(held.bytes);
    if (!suspect && isSuspect(held, this.limits)) this.#suspects++;
    return held;
  }

  /** Lets go of one; a second call does nothing. */
  remove(held: HeldDelivery): void {
    if (!this.#held.delete(held)) return;
    held.state = "settled";
    this.rejoin(held);
    this.#bytes -= held.bytes;
    if (!held.suspect && isSuspect(held, this.limits)) this.#suspects--;
    this.#size.finished(this.#concurrency());
  }

  /** It no longer counts in the window, unless as many do not already as may. */
  setAside(held: HeldDelivery): void {
    const { messages, bytes } = this.#mostAside;
    if (held.aside || this.#aside >= messages || this.#asideBytes + held.bytes > bytes) return;
    this.#countAside(held, 1);
  }

  /** It counts in the window again. */
  rejoin(held: HeldDelivery): void {
    if (held.aside) this.#countAside(held, -1);
  }

  #countAside(held: HeldDelivery, by: 1 | -1): void {
    held.aside = by > 0;
    this.#aside += by;
    this.#asideBytes += by * held.bytes;
    this.#bytes -= by * held.bytes;
    if (held.suspect) this.#suspectsAside += by;
  }

  /** The most deliveries to hold of the source. */
  window(): number {
    return this.#size.size(this.#concurrency(), this.#bytes) + this.#aside - this.#suspectsAside;
  }

  /** The most deliveries to hold of the suspects. */
  get suspectsWindow(): number {
    return 1 + this.#suspectsAside;
  }

  /** Handlers are free while keys that wait for their turn fill the window. */
  starved(): void {
    this.#size.starved();
  }
}

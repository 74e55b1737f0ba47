import type { DeliveryToken, IncomingMessage, Receiver, Settlement } from "../../core/adapter.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import { afterCurrentTurn, within } from "../../core/clock.ts";

const SETTLED_AT_ONCE = 1_000;
/** Leases are renewed three times before they end. */
const RENEWALS = 3;
/** How long a close waits for what it gives back. */
const RELEASE_MS = 5_000;

/** A dead letter in our hands: nobody else has it until it is removed, given back or lost. */
export interface Taken {
  readonly message: IncomingMessage;
  readonly from: OpenReceiver;
}

/** One receiver of a holder, and what it has. */
export class OpenReceiver {
  prefetch: number;
  /** How often the prefetch was widened. */
  widenings = 0;
  #receiver: Receiver | undefined;
  #clock: Clock | undefined;
  /** Delivered and not looked at yet. */
  #waiting = new Map<DeliveryToken, IncomingMessage>();
  /** Looked at, and in work. */
  readonly #working = new Set<DeliveryToken>();
  /** Looked at, and to be given back. */
  readonly #kept = new Set<DeliveryToken>();
  #removals: { readonly token: DeliveryToken; readonly done: (removed: boolean) => void }[] = [];
  #stopRenewing: (() => Promise<void>) | undefined;

  constructor(prefetch: number) {
    this.prefetch = prefetch;
  }

  opened(receiver: Receiver, clock: Clock): void {
    this.#receiver = receiver;
    this.#clock = clock;
    receiver.prefetch(this.prefetch);
    if (receiver.leaseMs !== undefined)
      this.#stopRenewing = renewing(clock, receiver.leaseMs / RENEWALS, () => this.#renew());
  }

  get held(): number {
    return this.#waiting.size + this.#working.size + this.#kept.size;
  }

  get leased(): boolean {
    return this.#receiver?.leaseMs !== undefined;
  }

  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** Whether nothing more comes because of what is kept. */
  get isFull(): boolean {
    return this.held >= this.prefetch && this.#kept.size > 0;
  }

  /** By so many. */
  widen(by: number): void {
    if (by <= 0) return;
    this.widenings++;
    this.prefetch += by;
    this.#receiver?.prefetch(this.prefetch);
  }

  deliver(batch: readonly IncomingMessage[]): void {
    for (const message of batch) this.#waiting.set(message.token, message);
  }

  lost(tokens: readonly DeliveryToken[] | "all"): void {
    const all = [this.#waiting, this.#working, this.#kept];
    for (const holding of all) {
      if (tokens === "all") holding.clear();
      else for (const token of tokens) holding.delete(token);
    }
  }

  /** Others are to have these: what is not in work goes back. */
  revoke(tokens: readonly DeliveryToken[]): void {
    const idle = tokens.filter((token) => this.#waiting.delete(token) || this.#kept.delete(token));
    void this.#requeue(idle);
  }

  takeWaiting(): Taken[] {
    const waiting = this.#waiting;
    if (waiting.size === 0) return [];
    this.#waiting = new Map();
    return [...waiting.values()].map((message) => {
      this.#working.add(message.token);
      return { message, from: this };
    });
  }

  has(token: DeliveryToken): boolean {
    return this.#working.has(token);
  }

  keep(token: DeliveryToken): void {
    if (this.#working.delete(token)) this.#kept.add(token);
  }

  giveBack(token: DeliveryToken): void {
    if (this.#working.delete(token)) void this.#requeue([token]);
  }

  /** What is removed within one turn is settled in one batch. */
  remove(token: DeliveryToken): Promise<boolean> {
    return new Promise((done) => {
      this.#removals.push({ token, done });
      if (this.#removals.length === 1) afterCurrentTurn(() => void this.#settleRemovals());
    });
  }

  async #settleRemovals(): Promise<void> {
    const removals = this.#removals;
    this.#removals = [];
    const batch = removals.map(({ token }): Settlement => ({ token, action: "ack" }));
    const results = (await this.#receiver?.settle(batch)) ?? [];
    for (const [index, { token, done }] of removals.entries()) {
      this.#working.delete(token);
      done(results[index] === "settled");
    }
  }

  async #renew(): Promise<void> {
    const held = [...this.#waiting.keys(), ...this.#working, ...this.#kept];
    for (let from = 0; from < held.length; from += SETTLED_AT_ONCE) {
      const tokens = held.slice(from, from + SETTLED_AT_ONCE);
      const kept = (await this.#receiver?.extend(tokens)) ?? [];
      this.lost(tokens.filter((_, index) => kept[index] === false));
    }
  }

  async #requeue(tokens: readonly DeliveryToken[]): Promise<void> {
    for (let from = 0; from < tokens.length; from += SETTLED_AT_ONCE) {
      const batch = tokens.slice(from, from + SETTLED_AT_ONCE);
      await this.#receiver?.settle(batch.map((token) => ({ token, action: "requeue" })));
    }
  }

  async close(): Promise<void> {
    this.#receiver?.prefetch(0);
    // A lease that is renewed behind the requeue would keep the message from everybody.
    await this.#stopRenewing?.();
    const held = [...this.#waiting.keys(), ...this.#working, ...this.#kept];
    this.lost("all");
    // The broker may refuse it for now.
    if (this.#clock !== undefined) await within(this.#clock, RELEASE_MS, this.#requeue(held));
    await this.#receiver?.close();
  }
}

/** Calls again and again until it is stopped; resolves the stop when no call is under way. */
function renewing(clock: Clock, everyMs: number, renew: () => Promise<void>): () => Promise<void> {
  let timer: Timer;
  let stopped = false;
  let under: Promise<void> = Promise.resolve();
  const again = (): void => {
    under = renew().then(() => {
      if (!stopped) timer = clock.schedule(again, everyMs);
    });
  };
  timer = clock.schedule(again, everyMs);
  return async () => {
    stopped = true;
    clock.cancel(timer);
    await under;
  };
}

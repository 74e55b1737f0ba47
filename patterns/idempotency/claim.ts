import { MessagingError, type Timer } from "../../core/index.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { spareMs } from "../../core/stores.ts";
import type { ClaimedDelivery } from "./claimed-delivery.ts";
import type { GuardedStore } from "./guarded-store.ts";
import type { Settings } from "./options.ts";

/** Parts of a lease: when it is renewed, and how soon again after a failure. */
const RENEWAL = 1 / 3;
const AGAIN = 1 / 10;

/** A key that is ours: renewed while the handler runs, then completed or released. */
export class Claim {
  readonly #store: GuardedStore;
  readonly #token: string;
  readonly #settings: Settings;
  readonly #delivery: ClaimedDelivery;
  readonly #holdUntil: number;
  /** By the clock of this process, from before the store was asked: never later than by the store's. */
  #endsAt: number;
  #timer: Timer | undefined = undefined;
  #over = false;
  #taken = false;
  #isLostBlamelessly = false;
  /** Whether this process stood still since the last renewal, for as long as one has in hand: so it, not the store, was late. */
  #stoodStill = false;

  /** `askedAt`: when the store was asked for the claim, by the monotonic clock. */
  constructor(store: GuardedStore, token: string, askedAt: number, settings: Settings, delivery: ClaimedDelivery) {
    this.#store = store;
    this.#token = token;
    this.#settings = settings;
    this.#delivery = delivery;
    this.#holdUntil = askedAt + settings.holdMs;
    this.#endsAt = askedAt + settings.leaseMs;
    this.#renewIn(askedAt + settings.leaseMs * RENEWAL - settings.clock.monotonic());
  }

  /** Whether it was lost by the store for certain: neither did the handler take too long, nor did this process stand still. */
  get isLostBlamelessly(): boolean {
    return this.#isLostBlamelessly;
  }

  /** Gives the key back. If that fails, the lease ends by itself. */
  async release(): Promise<void> {
    this.#stop();
    if (!this.#taken) await this.#store.release(this.#token, spareMs(this.#delivery));
  }

  /** Marks the key done, trying again until the lease or the handler's time is over. Resolves with whether that is recorded. */
  async complete(): Promise<boolean> {
    this.#stop();
    const { clock, leaseMs } = this.#settings;
    const until = clock.monotonic() + spareMs(this.#delivery);
    const left = (): number => Math.min(this.#endsAt, until) - clock.monotonic();
    for (let failures = 1; ; failures++) {
      const answer = await this.#store.complete(this.#token, until - clock.monotonic());
      if ("value" in answer) return answer.value === "completed" || this.#completeAnew(until);
      if (left() < 1) return false;
      const ms = Math.min(left(), backoffMs(failures, { firstMs: leaseMs / 100, maxMs: leaseMs * AGAIN }));
      await new Promise<void>((resolve) => void clock.schedule(resolve, ms));
    }
  }

  /** Another had the key since. What was done is done all the same, and the next duplicate is to know. */
  async #completeAnew(until: number): Promise<boolean> {
    const { clock } = this.#settings;
    const answer = await this.#store.claim(until - clock.monotonic());
    if (!("value" in answer)) return false;
    if (answer.value.status !== "claimed") return answer.value.status === "done";
    const completed = await this.#store.complete(answer.value.token, until - clock.monotonic());
    return "value" in completed && completed.value === "completed";
  }

  #stop(): void {
    this.#over = true;
    if (this.#timer !== undefined) this.#settings.clock.cancel(this.#timer);
  }

  #renewIn(ms: number): void {
    const dueAt = this.#settings.clock.monotonic() + Math.max(ms, 0);
    this.#timer = this.#settings.clock.schedule(() => void this.#renew(dueAt), Math.max(ms, 0));
  }

  async #renew(dueAt: number): Promise<void> {
    const { clock, leaseMs, holdMs, storeTimeoutMs } = this.#settings;
    const askedAt = clock.monotonic();
    if (askedAt >= this.#holdUntil) {
      this.#lose(`the handler took longer than holdMs, ${holdMs} ms; raise it, or let the handler heed its signal`);
      return;
    }
    // Late, after a blocked event loop: it may be ours still, and only the store can tell.
    const left = this.#endsAt - askedAt;
    const withinMs = left > 0 ? left : leaseMs;
    const answer = await this.#store.renew(this.#token, withinMs);
    if (this.#over) return;
    this.#noteStandstill(askedAt - dueAt);
    this.#noteStandstill(clock.monotonic() - askedAt - Math.min(withinMs, storeTimeoutMs));
    if (!("value" in answer)) {
      const stillLeft = this.#endsAt - clock.monotonic();
      if (stillLeft >= 1) this.#renewIn(Math.min(stillLeft, leaseMs * AGAIN));
      else this.#loseToStore("the store did not answer until the lease was over");
    } else if (answer.value === "lost") {
      this.#taken = true;
      this.#loseToStore("it ended before it was renewed, and the key was claimed by another or cleaned away");
    } else {
      this.#stoodStill = false;
      this.#endsAt = askedAt + leaseMs;
      this.#renewIn(askedAt + leaseMs * RENEWAL - clock.monotonic());
    }
  }

  /** Timers that come so late are those of a process that was blocked, most often by a handler. */
  #noteStandstill(lateMs: number): void {
    this.#stoodStill ||= lateMs > this.#settings.leaseMs * RENEWAL;
  }

  #loseToStore(why: string): void {
    this.#isLostBlamelessly = !this.#stoodStill;
    this.#lose(this.#stoodStill ? `this process stood still, and ${why}` : why);
  }

  #lose(why: string): void {
    const { destination, id } = this.#delivery;
    const what = `the claim on message ${id} of ${destination} was lost: ${why}`;
    const error = new MessagingError("timeout", `${what}; another consumer may run it too`);
    this.#over = true;
    this.#delivery.lose(error);
    this.#store.tell({ type: "claim-lost", error });
  }
}

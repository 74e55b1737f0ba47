import { unawaited } from "../../core/foreign.ts";
import {
  type Delivery,
  type HandlerResult,
  isMessagingError,
  MessagingError,
  type Middleware,
  type Outcome,
  postpone,
  type Timer,
} from "../../core/index.ts";
import { outcomeKind } from "../../core/outcome.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { spareMs, storableText } from "../../core/stores.ts";
import { type IdempotentOptions, type Settings, settingsOf } from "./options.ts";
import { pause } from "./pause.ts";
import type { IdempotencyStore } from "./store.ts";
import { Cleaning, GuardedStore } from "./store-calls.ts";

/**
 * The key that a store keeps: `queue:key` or `topic/subscription:key`. Names have neither `:` nor `/`, so no two consumers
 * share a key. What a store need not carry (other characters than printable ASCII, over 256 of them) is hashed.
 */
function storeKey({ destination, subscription }: Delivery, key: unknown): string {
  unawaited(key);
  if (typeof key !== "string" || key === "") {
    throw new MessagingError("invalid", `idempotent { key } has to return a text for each message of ${destination}`);
  }
  const scope = subscription === undefined ? destination : `${destination}/${subscription}`;
  return `${scope}:${storableText(key)}`;
}

/** Parts of a lease: when it is renewed, and how soon again after a failure. */
const RENEWAL = 1 / 3;
const AGAIN = 1 / 10;

/** A key that is ours: renewed while the handler runs, then completed or released. */
class Claim {
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

/** A delivery whose signal is aborted as well when the claim on its key is lost. */
class ClaimedDelivery implements Delivery {
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

/** How often a key that is held, or a store that does not answer, is asked again. */
const LOOKS = { firstMs: 20, maxMs: 1_000 };

/**
 * Middleware that runs the handler once per key, however often its message comes: claim the key → handler → mark it done.
 * Keys are apart per queue, and per subscription of a topic.
 *
 * - Done before: acknowledged without the handler.
 * - Held by another: waits its turn, at most `waitMs`, and is then postponed, which uses up no attempt.
 * - The handler throws, or returns `retry()`, `postpone()` or `deadLetter()`: the claim is released, so that the next
 *   attempt, or a replay of the dead letter, runs.
 * - The store does not answer: the message waits and is postponed in the same way. It is never handled without a claim.
 *   Neither waiting takes longer than the consumer's `timeoutMs` allows, so that no attempt is used up by it.
 *   Where the store refuses this very key (`refused`), that is a failed attempt.
 * - The claim is renewed while the handler runs. If it is lost, `delivery.signal` is aborted, and the message comes again;
 *   so it does if the signal was aborted for any other reason before a handler that had asked for it returned. That uses
 *   up an attempt, unless the store alone lost the claim: this process asked for each renewal in time.
 *
 * At least once, still: a process that dies between the handler's effect and its completion leaves a claim, and after the
 * lease the next copy runs. A handler that succeeded while the store would not record it, before the lease or the
 * handler's time was over, is acknowledged (`unrecorded`).
 *
 * Throws `invalid` for wrong options.
 */
export function idempotent<Body = unknown>(
  store: IdempotencyStore,
  options: IdempotentOptions<Body> = {},
): Middleware<Body> {
  const settings = settingsOf(options);
  const cleaning = new Cleaning(settings);
  return (next) => async (body, delivery) => {
    const key = storeKey(delivery, settings.key === undefined ? delivery.id : settings.key(body, delivery));
    // Given twice, for the broker and for the consumer: the inner one would wait for the outer one.
    if (delivery instanceof ClaimedDelivery && delivery.isClaimed(store, key)) return next(body, delivery);
    const guarded = new GuardedStore(store, key, settings, delivery);
    const granted = await acquire(guarded, settings, delivery);
    if (granted === "done") {
      guarded.tell({ type: "duplicate" });
      return undefined;
    }
    if (granted === "busy" || granted === "store") return postponed(guarded, settings, granted);
    const claimed = new ClaimedDelivery(delivery, store, key);
    const claim = new Claim(guarded, granted.token, granted.askedAt, settings, claimed);
    const end = await handled(() => next(body, claimed), claim, claimed);
    if (end === "lost") return postponed(guarded, settings, "lost");
    if (end !== "done") return end;
    if (!(await claim.complete())) guarded.tell({ type: "unrecorded" });
    cleaning.completed(guarded);
    return undefined;
  };
}

/** A claim, or why there is none within the time that a message may wait in its handler's place. */
type Granted = { readonly token: string; readonly askedAt: number } | "done" | "busy" | "store";

async function acquire(store: GuardedStore, settings: Settings, delivery: Delivery): Promise<Granted> {
  const { clock, waitMs } = settings;
  const begin = clock.monotonic();
  const spare = spareMs(delivery);
  for (let looks = 1; ; looks++) {
    const askedAt = clock.monotonic();
    const answer = await store.claim(begin + spare - askedAt);
    // It would refuse the key for ever.
    if ("error" in answer && isMessagingError(answer.error, "refused")) throw answer.error;
    const result = "value" in answer ? answer.value : undefined;
    if (result?.status === "claimed") return { token: result.token, askedAt };
    if (result?.status === "done") return "done";
    const left = Math.min(waitMs, spare) - (clock.monotonic() - begin);
    if (left < 1) return result === undefined ? "store" : "busy";
    // A lease that ends sooner is looked at then; the next look may come before it, for the holder may be done.
    const remaining = result === undefined ? left : result.remainingMs + 1;
    await pause(clock, Math.min(left, remaining, backoffMs(looks, LOOKS)), delivery.signal);
    if (delivery.signal.aborted) throw delivery.signal.reason;
  }
}

/**
 * Runs the handler. Unless it is `done` the claim is released. `lost`: the claim was, through no fault of the handler.
 */
async function handled(
  run: () => HandlerResult | Promise<HandlerResult>,
  claim: Claim,
  delivery: ClaimedDelivery,
): Promise<Outcome | "done" | "lost"> {
  let result: HandlerResult;
  try {
    result = await run();
  } catch (error) {
    await claim.release();
    if (delivery.told !== undefined && claim.isLostBlamelessly) return "lost";
    throw error;
  }
  if (outcomeKind(result) !== undefined) {
    await claim.release();
    return result as Outcome;
  }
  const { told } = delivery;
  if (told === undefined) return "done";
  // It was told to end and ended: nobody can say whether its work was done. Marked done, it might be lost.
  await claim.release();
  if (claim.isLostBlamelessly) return "lost";
  throw told;
}

function postponed(store: GuardedStore, settings: Settings, because: "busy" | "store" | "lost"): Outcome {
  // Those that were postponed together do not come back together.
  const afterMs = Math.ceil(settings.postponeMs * (0.5 + Math.random() / 2));
  store.tell({ type: "postponed", because, afterMs });
  return postpone({ afterMs });
}

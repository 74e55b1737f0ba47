import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import { type Clock, pause, type Timer } from "../../core/clock.ts";
import {
  type Delivery,
  type HandlerResult,
  type Middleware,
  type Outcome,
  outcomeKind,
  postpone,
} from "../../core/delivery.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { observe, shownId, unawaited } from "../../core/foreign.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { ask, Cleaning, cleanSettings, type StoreAnswer, spareMs, storableText } from "../../core/stores.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

/** Shares of a lease: when it is renewed, and the longest pause after a failed call. */
const RENEWAL = 1 / 3;
const RETRY = 1 / 10;

/** The pauses between calls for a busy key, or after failed calls. */
const CLAIM_BACKOFF = { firstMs: 20, maxMs: 1_000 };

/**
 * Middleware that runs the handler once per key, with any number of copies: it claims the key, runs the handler, and marks
 * the key done. Keys are separate per queue, and per subscription of a topic.
 *
 * - The key is done: the message is acknowledged without the handler.
 * - Another consumer holds the key: the message waits for `waitMs` at most, and is then postponed, which uses no attempt.
 * - The handler throws, or returns `retry()`, `postpone()` or `deadLetter()`: the claim is released, so that the next
 *   attempt, or a replay of the dead letter, runs.
 * - The store does not answer: the message waits and is postponed in the same way. It is never handled without a claim.
 *   Both waits end before the consumer's `timeoutMs`, so that they use no attempt.
 * - The store refuses this key (`refused`): the attempt fails.
 * - The claim is renewed while the handler runs. If it is lost, `delivery.signal` is aborted, and the message is redelivered.
 *   The same happens after any other abort that the handler could see before it returned. This uses an attempt, unless only
 *   the store lost the claim: this process requested each renewal in time.
 *
 * Delivery is still at least once. A process that dies after the handler's effect and before its completion leaves a claim,
 * and after the lease the next copy runs. If the store cannot record a success before the lease or the handler's time ends,
 * the message is acknowledged (`unrecorded`).
 *
 * Throws `invalid` for wrong options.
 */
export function idempotent<Body = unknown>(
  store: IdempotencyStore,
  options: IdempotentOptions<Body> = {},
): Middleware<Body> {
  if (typeof store?.claim !== "function") {
    throw new MessagingError("invalid", "idempotent(store, options) takes a store, such as memoryIdempotencyStore()");
  }
  const settings = settingsOf(options);
  const cleaning = new Cleaning(settings.clock, settings.clean);
  return (next) => async (body, delivery) => {
    const key = storeKey(delivery, settings.key === undefined ? delivery.id : settings.key(body, delivery));
    // The middleware may be in use twice, for the broker and the consumer: the inner one would wait for the outer one.
    if (delivery instanceof ClaimedDelivery && delivery.isClaimed(store, key)) return next(body, delivery);
    const guarded = new GuardedStore(store, key, settings, delivery);
    const acquired = await acquire(guarded, settings, delivery);
    if (acquired === "done") {
      guarded.emit({ type: "duplicate" });
      return undefined;
    }
    if (acquired === "busy" || acquired === "store") return postponed(guarded, settings, acquired);
    const claimed = new ClaimedDelivery(delivery, store, key);
    const claim = new Claim(guarded, acquired.token, acquired.askedAt, settings, claimed);
    const end = await runHandler(() => next(body, claimed), claim, claimed);
    if (end === "lost") return postponed(guarded, settings, "lost");
    if (end !== "done") return end;
    if (!(await claim.complete())) guarded.emit({ type: "unrecorded" });
    void cleaning.runIfDue((limit) => guarded.clean(limit));
    return undefined;
  };
}

/**
 * The key that a store keeps: `queue:key` or `topic/subscription:key`. Names contain neither `:` nor `/`, so no two consumers
 * share a key. Long keys, and keys with other characters than printable ASCII, are hashed.
 */
function storeKey({ destination, subscription }: Delivery, key: unknown): string {
  unawaited(key);
  if (typeof key !== "string" || key === "") {
    throw new MessagingError("invalid", `idempotent { key } has to return a text for each message of ${destination}`);
  }
  const scope = subscription === undefined ? destination : `${destination}/${subscription}`;
  return `${scope}:${storableText(key)}`;
}

/** A claim, or why there was none in time. */
type Acquired = { readonly token: string; readonly askedAt: number } | "done" | "busy" | "store";

async function acquire(store: GuardedStore, settings: Settings, delivery: Delivery): Promise<Acquired> {
  const { clock, waitMs } = settings;
  const begin = clock.monotonic();
  const spare = spareMs(delivery);
  for (let calls = 1; ; calls++) {
    const askedAt = clock.monotonic();
    const answer = await store.claim(begin + spare - askedAt);
    // The store would refuse this key for ever.
    if ("error" in answer && isMessagingError(answer.error, "refused")) throw answer.error;
    const result = "value" in answer ? answer.value : undefined;
    if (result?.status === "claimed") return { token: result.token, askedAt };
    if (result?.status === "done") return "done";
    const left = Math.min(waitMs, spare) - (clock.monotonic() - begin);
    if (left < 1) return result === undefined ? "store" : "busy";
    // Asks again when the lease ends, and before, since the holder may be done.
    const remaining = result === undefined ? left : result.remainingMs + 1;
    await pause(clock, Math.min(left, remaining, backoffMs(calls, CLAIM_BACKOFF)), delivery.signal);
    if (delivery.signal.aborted) throw delivery.signal.reason;
  }
}

/**
 * Runs the handler, and releases the claim unless the result is `done`. `lost`: the store lost the claim.
 */
async function runHandler(
  run: () => HandlerResult | Promise<HandlerResult>,
  claim: Claim,
  delivery: ClaimedDelivery,
): Promise<Outcome | "done" | "lost"> {
  let result: HandlerResult;
  try {
    result = await run();
  } catch (error) {
    await claim.release();
    if (delivery.seenAbort !== undefined && claim.isLostByStore) return "lost";
    throw error;
  }
  if (outcomeKind(result) !== undefined) {
    await claim.release();
    return result as Outcome;
  }
  const { seenAbort } = delivery;
  if (seenAbort === undefined) return "done";
  // A handler whose signal was aborted does not count as completed.
  await claim.release();
  if (claim.isLostByStore) return "lost";
  throw seenAbort;
}

function postponed(store: GuardedStore, settings: Settings, because: "busy" | "store" | "lost"): Outcome {
  // Random, so that messages that were postponed together do not return together.
  const afterMs = Math.ceil(settings.postponeMs * (0.5 + Math.random() / 2));
  store.emit({ type: "postponed", because, afterMs });
  return postpone({ afterMs });
}

/** The claim on a key: renewed while the handler runs, then completed or released. */
class Claim {
  readonly #store: GuardedStore;
  readonly #token: string;
  readonly #settings: Settings;
  readonly #delivery: ClaimedDelivery;
  readonly #holdUntil: number;
  /** By this process' clock, counted from before the call: never later than the store's own end. */
  #endsAt: number;
  #timer: Timer | undefined = undefined;
  #over = false;
  #taken = false;
  #isLostByStore = false;
  /** Whether this process was blocked since the last renewal, for a third of a lease: then it was late, not the store. */
  #wasBlocked = false;

  /** `askedAt`: when the claim was requested, by the monotonic clock. */
  constructor(store: GuardedStore, token: string, askedAt: number, settings: Settings, delivery: ClaimedDelivery) {
    this.#store = store;
    this.#token = token;
    this.#settings = settings;
    this.#delivery = delivery;
    this.#holdUntil = askedAt + settings.holdMs;
    this.#endsAt = askedAt + settings.leaseMs;
    this.#renewIn(askedAt + settings.leaseMs * RENEWAL - settings.clock.monotonic());
  }

  /** Whether the store lost it for certain: the handler did not take too long, and this process was not blocked. */
  get isLostByStore(): boolean {
    return this.#isLostByStore;
  }

  /** Releases the key. If that fails, the lease expires. */
  async release(): Promise<void> {
    this.#stop();
    if (!this.#taken) await this.#store.release(this.#token, spareMs(this.#delivery));
  }

  /** Marks the key done, with retries until the lease or the handler's time ends. Resolves with whether it is recorded. */
  async complete(): Promise<boolean> {
    this.#stop();
    const { clock, leaseMs } = this.#settings;
    const until = clock.monotonic() + spareMs(this.#delivery);
    const left = (): number => Math.min(this.#endsAt, until) - clock.monotonic();
    for (let failures = 1; ; failures++) {
      const answer = await this.#store.complete(this.#token, until - clock.monotonic());
      if ("value" in answer) return answer.value === "completed" || this.#completeAgain(until);
      if (left() < 1) return false;
      const ms = Math.min(left(), backoffMs(failures, { firstMs: leaseMs / 100, maxMs: leaseMs * RETRY }));
      await pause(clock, ms);
    }
  }

  /** Another consumer had the key since. The work is done all the same, and the next duplicate must see that. */
  async #completeAgain(until: number): Promise<boolean> {
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
    // After a blocked event loop the lease may have been taken over; only the store knows.
    const left = this.#endsAt - askedAt;
    const withinMs = left > 0 ? left : leaseMs;
    const answer = await this.#store.renew(this.#token, withinMs);
    if (this.#over) return;
    this.#noteBlocked(askedAt - dueAt);
    this.#noteBlocked(clock.monotonic() - askedAt - Math.min(withinMs, storeTimeoutMs));
    if (!("value" in answer)) {
      const stillLeft = this.#endsAt - clock.monotonic();
      if (stillLeft >= 1) this.#renewIn(Math.min(stillLeft, leaseMs * RETRY));
      else this.#loseToStore("the store did not answer before the lease ended");
    } else if (answer.value === "lost") {
      this.#taken = true;
      this.#loseToStore(
        "the lease ended before the renewal, and another consumer claimed the key, or it was cleaned away",
      );
    } else {
      this.#wasBlocked = false;
      this.#endsAt = askedAt + leaseMs;
      this.#renewIn(askedAt + leaseMs * RENEWAL - clock.monotonic());
    }
  }

  /** Timers are late if the process was blocked, most often by a handler. */
  #noteBlocked(lateMs: number): void {
    this.#wasBlocked ||= lateMs > this.#settings.leaseMs * RENEWAL;
  }

  #loseToStore(why: string): void {
    this.#isLostByStore = !this.#wasBlocked;
    this.#lose(this.#wasBlocked ? `this process was blocked, and ${why}` : why);
  }

  #lose(why: string): void {
    const { destination, id } = this.#delivery;
    const what = `the claim on message ${shownId(id)} of ${destination} was lost: ${why}`;
    const error = new MessagingError("timeout", `${what}; another consumer may handle it too`);
    this.#over = true;
    this.#delivery.lose(error);
    this.#store.emit({ type: "claim-lost", error });
  }
}

/** A delivery whose signal is also aborted when the claim on its key is lost. */
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

  /** Whether this store has a claim on this key for it. */
  isClaimed(store: IdempotencyStore, key: string): boolean {
    if (this.#store === store && this.#key === key) return true;
    return this.#inner instanceof ClaimedDelivery && this.#inner.isClaimed(store, key);
  }

  lose(reason: unknown): void {
    this.#lost = reason;
    this.#controller?.abort(reason);
  }

  /**
   * The reason of the abort that the handler could see. A handler that never reads the signal runs to its end.
   */
  get seenAbort(): unknown {
    return this.#signal?.aborted === true ? this.#signal.reason : undefined;
  }

  /** Created on first use: most handlers never read it. */
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

type EventOf<Type extends IdempotencyEvent["type"]> = Extract<IdempotencyEvent, { readonly type: Type }>;

/** The properties of an event besides its message. */
type EventDetails = {
  [Type in IdempotencyEvent["type"]]: Omit<EventOf<Type>, "destination" | "subscription" | "id">;
}[IdempotencyEvent["type"]];

/** One key of a store, for one message. Calls never reject, end in time, and emit their failures. */
class GuardedStore {
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

/** The options of {@link idempotent}. `Body` is the body that the handler gets. */
export interface IdempotentOptions<Body> {
  /**
   * Returns the key of a message: a text that is not empty, of any length. Default: the message's id. Of all messages with
   * one key, only the first is handled, even if their contents differ.
   */
  readonly key?: (body: Body, delivery: Delivery) => string;
  /**
   * How long a claim lasts without a renewal, in milliseconds. It is renewed while the handler runs. After a crash the
   * message waits that long before another consumer may handle it. Default 30,000.
   */
  readonly leaseMs?: number;
  /**
   * For how long a claim is renewed at most, in milliseconds, so that a hanging handler does not hold its message for ever.
   * Use the consumer's `timeoutMs`, or more. Default 300,000.
   */
  readonly holdMs?: number;
  /**
   * For how long a key stays done, in milliseconds: longer than a duplicate may be late, including replays of dead letters.
   * Default 604,800,000, seven days.
   */
  readonly retentionMs?: number;
  /**
   * How long a message waits while another consumer holds its key or the store does not answer, in milliseconds. It occupies
   * a place of the consumer's concurrency; then it is postponed. It is postponed earlier, with `storeTimeoutMs` cut short, if
   * the consumer's `timeoutMs` is nearly over. Default 5,000.
   */
  readonly waitMs?: number;
  /** The longest delay of a postponed message, in milliseconds. The delay is random, at least half of it. Default 5,000. */
  readonly postponeMs?: number;
  /**
   * How long the store may take to answer, in milliseconds, at most a third of `leaseMs`. Default 5,000, or a third of
   * `leaseMs` if that is less.
   */
  readonly storeTimeoutMs?: number;
  /** How expired records are removed, or `false` if another process does it. */
  readonly clean?: CleanOptions | false;
  /** Called for each event. Errors that it throws are ignored. */
  readonly onEvent?: (event: IdempotencyEvent) => void;
  /** The clock for waits and renewals; leases end by the store's clock. Default: the machine's. */
  readonly clock?: Clock;
}

/** How a store is cleaned: a few records at a time, after a completion, beside the handlers. */
export interface CleanOptions {
  /** Milliseconds between two cleanings; 0 after a cleaning that reached its limit. Default 60,000. */
  readonly everyMs?: number;
  /** The most records that one cleaning removes. Default 1,000. */
  readonly limit?: number;
}

/** The options with their defaults. */
interface Settings {
  readonly key: ((body: unknown, delivery: Delivery) => string) | undefined;
  readonly leaseMs: number;
  readonly holdMs: number;
  readonly retentionMs: number;
  readonly waitMs: number;
  readonly postponeMs: number;
  readonly storeTimeoutMs: number;
  readonly clean: Required<CleanOptions> | undefined;
  readonly onEvent: ((event: IdempotencyEvent) => void) | undefined;
  readonly clock: Clock;
}

const TIMES = ["leaseMs", "holdMs", "retentionMs", "waitMs", "postponeMs", "storeTimeoutMs"] as const;
const DEFAULT_STORE_TIMEOUT_MS = 5_000;

/** Checks the options and fills in the defaults. */
function settingsOf<Body>(options: IdempotentOptions<Body>): Settings {
  checkOptions("idempotent", options, [...TIMES, "key", "clean", "onEvent", "clock"]);
  const { leaseMs = 30_000, holdMs = 300_000, retentionMs = 7 * 24 * 60 * 60 * 1_000 } = options;
  const { waitMs = 5_000, postponeMs = 5_000, onEvent } = options;
  const clock = clockOf("idempotent { clock }", options.clock);
  checkInteger("idempotent { leaseMs }", leaseMs, 3, LONGEST_MS);
  const longestAnswer = Math.floor(leaseMs / 3);
  const { storeTimeoutMs = Math.min(DEFAULT_STORE_TIMEOUT_MS, longestAnswer) } = options;
  checkInteger("idempotent { holdMs }", holdMs, 1, LONGEST_MS);
  checkInteger("idempotent { retentionMs }", retentionMs, 1, LONGEST_MS);
  checkInteger("idempotent { waitMs }", waitMs, 0, LONGEST_MS);
  checkInteger("idempotent { postponeMs }", postponeMs, 1, LONGEST_MS);
  checkInteger("idempotent { storeTimeoutMs }, at most a third of leaseMs,", storeTimeoutMs, 1, longestAnswer);
  for (const name of ["key", "onEvent"] as const) {
    if (options[name] === undefined || typeof options[name] === "function") continue;
    throw new MessagingError("invalid", `idempotent { ${name} } takes a function`);
  }
  return {
    // A middleware wraps handlers of any body; the caller vouches for the type.
    key: options.key as Settings["key"],
    leaseMs,
    holdMs,
    retentionMs,
    waitMs,
    postponeMs,
    storeTimeoutMs,
    clean: cleanSettings("idempotent", options.clean),
    onEvent,
    clock,
  };
}

/** The message and consumer of an event. */
export interface IdempotencyEventSource {
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /** The message's id. */
  readonly id: string;
}

/**
 * An event of `idempotent { onEvent }`. It never has a key, a body or a credential.
 *
 * - `duplicate`: the key is done, and the message is acknowledged without the handler.
 * - `postponed`: the message is redelivered after `afterMs`, without counting an attempt. `because`: another consumer holds
 *   the key (`busy`), the store did not answer (`store`), or the store lost the claim (`lost`).
 * - `claim-lost`: the claim was lost while the handler ran, and another consumer may handle the message too. The handler's
 *   signal was aborted with the error.
 * - `unrecorded`: the handler succeeded, and the store could not record it: a duplicate would run again.
 * - `store-failed`: a call to the store failed or timed out. Its consequence has another event. A failed `clean` names the
 *   message after which it ran.
 */
export type IdempotencyEvent = IdempotencyEventSource &
  (
    | { readonly type: "duplicate" }
    | { readonly type: "postponed"; readonly because: "busy" | "store" | "lost"; readonly afterMs: number }
    | { readonly type: "claim-lost"; readonly error: MessagingError }
    | { readonly type: "unrecorded" }
    | { readonly type: "store-failed"; readonly call: StoreCall; readonly error: unknown }
  );

/** The calls of an `IdempotencyStore`. */
export type StoreCall = "claim" | "renew" | "complete" | "release" | "clean";

import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { Delivery } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import { cleanSettings } from "../../core/stores.ts";

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
export interface Settings {
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
export function settingsOf<Body>(options: IdempotentOptions<Body>): Settings {
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

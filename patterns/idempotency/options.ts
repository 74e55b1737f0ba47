import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import { type Clock, type Delivery, MessagingError } from "../../core/index.ts";

/** The options of {@link idempotent}. `Body` is what the handler gets. */
export interface IdempotentOptions<Body> {
  /**
   * What makes two messages the same: a text that is not empty, of any length. Default: the message's id. Two messages of
   * one key count as one, whatever is in them: only the first is handled.
   */
  readonly key?: (body: Body, delivery: Delivery) => string;
  /**
   * For how long a claim is held, in milliseconds. It is renewed while the handler runs; after a crash it is how long the
   * message waits before another consumer may run it. Default 30,000.
   */
  readonly leaseMs?: number;
  /**
   * For how long a claim is renewed at most, in milliseconds, so that a handler that hangs does not hold its message for
   * ever. Give it the consumer's `timeoutMs`, or more. Default 300,000.
   */
  readonly holdMs?: number;
  /**
   * For how long what is done is remembered, in milliseconds. Longer than a duplicate may be late: the age of a replayed
   * dead letter included. Default 604,800,000, seven days.
   */
  readonly retentionMs?: number;
  /**
   * How long a message waits, in its handler's place, while another holds its key or the store does not answer, in
   * milliseconds; then it is postponed. It is postponed earlier, with `storeTimeoutMs` cut short, where the consumer's
   * `timeoutMs` is nearly over. Default 5,000.
   */
  readonly waitMs?: number;
  /** How long a postponed message stays away at most, in milliseconds; at least half of it, by chance. Default 5,000. */
  readonly postponeMs?: number;
  /**
   * How long the store may take to answer, in milliseconds, before it counts as down. At most a third of `leaseMs`.
   * Default 5,000, or a third of `leaseMs` if that is less.
   */
  readonly storeTimeoutMs?: number;
  /** How the store is cleaned of what has ended, or `false` if somebody else does it. */
  readonly clean?: CleanOptions | false;
  /** Told what happens. What it throws is ignored. */
  readonly onEvent?: (event: IdempotencyEvent) => void;
  /** Where waiting and renewing take their time from; leases end by the store's. Default: the machine. */
  readonly clock?: Clock;
}

/** How a store is cleaned: a little at a time, after a completion, beside the handlers. */
export interface CleanOptions {
  /** Milliseconds between two cleanings; none if the last found as much as it might take. Default 60,000. */
  readonly everyMs?: number;
  /** The most records that one cleaning removes. Default 1,000. */
  readonly limit?: number;
}

/** The options with nothing left open. */
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

/** Checks what was given and fills in the defaults. */
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
    // A middleware wraps handlers of any body; whose bodies these are is the caller's word.
    key: options.key as Settings["key"],
    leaseMs,
    holdMs,
    retentionMs,
    waitMs,
    postponeMs,
    storeTimeoutMs,
    clean: cleanSettings(options.clean),
    onEvent,
    clock,
  };
}

function cleanSettings(given: CleanOptions | false = {}): Required<CleanOptions> | undefined {
  if (given === false) return undefined;
  checkOptions("idempotent { clean }", given, ["everyMs", "limit"]);
  const { everyMs = 60_000, limit = 1_000 } = given;
  checkInteger("idempotent { clean: { everyMs } }", everyMs, 1, LONGEST_MS);
  checkInteger("idempotent { clean: { limit } }", limit, 1);
  return { everyMs, limit };
}

/** Which message of which consumer an event is about. */
export interface IdempotencyEventSource {
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /** The message's id. */
  readonly id: string;
}

/**
 * What `idempotent { onEvent }` is told. Never holds a key, a body or a credential.
 *
 * - `duplicate`: it was done before, and is acknowledged without the handler.
 * - `postponed`: it was not given to the handler, or the store lost its claim, and comes again after `afterMs`, without an
 *   attempt being counted; `because` its key is held by another, or the store did not answer, or the claim was lost.
 * - `claim-lost`: the claim was lost while the handler ran: another may run beside it. The handler's signal was aborted
 *   with the error.
 * - `unrecorded`: the handler succeeded, and that could not be recorded: a duplicate would run again.
 * - `store-failed`: a call to the store failed or was not answered in time. What follows from it has an event of its own;
 *   a failed `clean` is told beside the message after which it was tried.
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

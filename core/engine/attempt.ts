import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Codec } from "../codec.ts";
import type { Handler, HandlerResult } from "../delivery.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { type Outcome, outcomeKind } from "../outcome.ts";
import { HEADER, numberHeader } from "../system-headers.ts";
import type { AttemptDelivery, HeldDelivery } from "./held-delivery.ts";
import { readBody } from "./incoming.ts";

/** What became of an attempt, or why there was none. */
export type Verdict =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly error: unknown; readonly afterMs: number | undefined }
  | { readonly kind: "dead"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** The handler would not try it now. */
  | { readonly kind: "postponed"; readonly afterMs: number }
  /** It came before its time. */
  | { readonly kind: "early"; readonly delayMs: number }
  /** Its consumers died around it too often to run it beside others. */
  | { readonly kind: "suspect" };

const DONE: Verdict = Object.freeze({ kind: "done" });
const SUSPECT: Verdict = Object.freeze({ kind: "suspect" });

/** How deaths around a message are judged, by the number of attempts it may have. */
export interface CrashLimits {
  /** From so many deaths on it is set apart. */
  readonly suspectFrom: number;
  /** From so many more, apart, it is dead-lettered without another start. */
  readonly deadFromApart: number;
  /** From so many in all, where nothing can be set apart, what stands first is dead-lettered. */
  readonly deadFrom: number;
}

/**
 * A broker counts every delivery that ended in a death, also those that merely waited in the same window. So nothing is
 * dead-lettered on that count alone: some attempts before the last, a message is set apart, where it is the only one
 * held; from then on its count is its own. Two deaths apart are asked for where the policy allows as many. Failed attempts
 * do not count here: a message that fails now and then would be set apart too early, and be blamed for its neighbour.
 */
export function crashLimits(attempts: number, leased: boolean): CrashLimits {
  const apart = Math.max(attempts, 2);
  const suspectFrom = Math.max(1, apart - 2);
  // In order the first that is not settled is taken for the one that ran. Where leases run out the order of arrival may
  // turn, and a neighbour would be blamed: there two deaths one at a time are asked for, whatever the policy.
  return { suspectFrom, deadFromApart: apart - suspectFrom, deadFrom: Math.max(attempts, leased ? 3 : 2) };
}

/** Whether so many deaths lie behind a delivery that it may not run beside others. */
export function isSuspect(held: HeldDelivery, limits: CrashLimits): boolean {
  return held.incoming.redeliveries >= limits.suspectFrom;
}

/** Why a delivery is not given to the handler, if it is not. */
export function obstacle(held: HeldDelivery, now: number, limits: CrashLimits, ordered: boolean): Verdict | undefined {
  const { headers, redeliveries, unreadable } = held.incoming;
  if (unreadable !== undefined) return { kind: "dead", reason: "invalid", error: unreadable };
  const expiresAt = numberHeader(headers, HEADER.expiresAt, 0);
  if (expiresAt !== 0 && now >= expiresAt) {
    const error = new MessagingError("timeout", `it was not delivered by ${new Date(expiresAt).toISOString()}`);
    return { kind: "dead", reason: "expired", error };
  }
  const dueAt = numberHeader(headers, HEADER.dueAt, 0);
  if (now < dueAt) return { kind: "early", delayMs: dueAt - now };
  // In order nothing can be set apart; there the first that is not settled is the one that ran. What could not be moved to
  // the suspects runs alone.
  const own = held.suspect
    ? redeliveries >= limits.deadFromApart
    : (held.alone || (ordered && held.first)) && redeliveries >= limits.deadFrom;
  if (own) {
    const error = new MessagingError("rejected", `its consumer died ${redeliveries} times while handling it`);
    return { kind: "dead", reason: "crashed", error };
  }
  if (!held.suspect && !held.alone && !ordered && isSuspect(held, limits)) return SUSPECT;
  return undefined;
}

/** What the handler is called with and how. */
export interface AttemptContext {
  readonly codec: Codec;
  readonly schema: StandardSchemaV1 | undefined;
  readonly handler: Handler<unknown>;
  /** The body could be read and the handler is about to be called; false where it is not wanted any more. */
  begin(held: HeldDelivery, delivery: AttemptDelivery): boolean;
}

/**
 * Reads the body and calls the handler. `finish` is called once with the verdict, possibly before this returns.
 */
export function runAttempt(
  held: HeldDelivery,
  delivery: AttemptDelivery,
  context: AttemptContext,
  finish: (verdict: Verdict) => void,
): void {
  let body: ReturnType<typeof readBody>;
  try {
    body = readBody(held.incoming, context.codec, context.schema);
  } catch (error) {
    finish({ kind: "dead", reason: "invalid", error });
    return;
  }
  if (body instanceof Promise) {
    body.then(
      ({ value }) => call(value, held, delivery, context, finish),
      (error: unknown) => finish({ kind: "dead", reason: "invalid", error }),
    );
  } else {
    call(body.value, held, delivery, context, finish);
  }
}

function call(
  body: unknown,
  held: HeldDelivery,
  delivery: AttemptDelivery,
  context: AttemptContext,
  finish: (verdict: Verdict) => void,
): void {
  if (!context.begin(held, delivery)) {
    finish(DONE);
    return;
  }
  let result: HandlerResult | Promise<HandlerResult>;
  try {
    result = context.handler(body, delivery);
  } catch (error) {
    finish(failed(error));
    return;
  }
  // A thenable that is no promise may answer twice, or throw from its then.
  const promise = result instanceof Promise ? result : isThenable(result) ? Promise.resolve(result) : undefined;
  if (promise === undefined) finish(verdictOf(result));
  else
    promise.then(
      (value) => finish(verdictOf(value)),
      (error: unknown) => finish(failed(error)),
    );
}

function failed(error: unknown): Verdict {
  return { kind: "failed", error, afterMs: undefined };
}

function isThenable(value: unknown): value is Promise<HandlerResult> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

function verdictOf(result: unknown): Verdict {
  const kind = outcomeKind(result);
  if (kind === undefined) return DONE;
  const outcome = result as Outcome;
  if ("reason" in outcome) {
    return { kind: "dead", reason: "rejected", error: new MessagingError("rejected", outcome.reason) };
  }
  if (kind === "postpone") return { kind: "postponed", afterMs: outcome.afterMs ?? 0 };
  const error = new MessagingError("rejected", "the handler asked for a retry");
  return { kind: "failed", error, afterMs: outcome.afterMs };
}

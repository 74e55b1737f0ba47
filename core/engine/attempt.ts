import type { Handler, HandlerResult } from "../delivery.ts";
import { MessagingError } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { hasThen, isThenable } from "../foreign.ts";
import { LONGEST_MS } from "../names.ts";
import { type DeadLetterOutcome, outcomeKind, type PostponeOutcome, type RetryOutcome } from "../outcome.ts";
import { HEADER, timeHeader } from "../system-headers.ts";
import type { Attempt, InFlightDelivery } from "./in-flight-delivery.ts";
import { type Reading, readBody } from "./incoming.ts";

/** What became of an attempt, or why there was none. */
export type AttemptResult =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly error: unknown; readonly afterMs: number | undefined }
  | { readonly kind: "dead"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** The handler would not try it now. */
  | { readonly kind: "postponed"; readonly afterMs: number }
  /** It came before its time. */
  | { readonly kind: "early"; readonly delayMs: number };

const DONE: AttemptResult = Object.freeze({ kind: "done" });

/**
 * Why a delivery is not given to the handler, if it is not. In order nothing is sent with a delay, so a due time was written by
 * another sender: it would wait in its place, and hundreds of them would fill the prefetch.
 */
export function precheck({ incoming }: InFlightDelivery, now: number, ordered: boolean): AttemptResult | undefined {
  const { headers, unreadable } = incoming;
  if (unreadable !== undefined) return { kind: "dead", reason: "invalid", error: unreadable };
  const expiresAt = timeHeader(headers, HEADER.expiresAt);
  if (expiresAt !== undefined && now >= expiresAt) {
    const error = new MessagingError("timeout", `it was not delivered by ${timeText(expiresAt)}`);
    return { kind: "dead", reason: "expired", error };
  }
  const dueAt = ordered ? undefined : timeHeader(headers, HEADER.dueAt);
  if (dueAt !== undefined && now < dueAt) return { kind: "early", delayMs: Math.min(dueAt - now, LONGEST_MS) };
  return undefined;
}

/** Any sender may have written it, and dates end. */
function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms since 1970` : date.toISOString();
}

/** What the handler is called with and how. */
export interface AttemptContext extends Reading {
  readonly handler: Handler<unknown>;
  /** The body could be read and the handler is about to be called; false where it is not wanted any more. */
  begin(held: InFlightDelivery, attempt: Attempt): boolean;
}

/**
 * Reads the body and calls the handler. `finish` is called once with the result, possibly before this returns.
 */
export function runAttempt(
  held: InFlightDelivery,
  attempt: Attempt,
  context: AttemptContext,
  finish: (result: AttemptResult) => void,
): void {
  if (held.incoming.tombstone === true && context.tombstones === "skip") {
    finish(DONE);
    return;
  }
  let body: ReturnType<typeof readBody>;
  try {
    body = readBody(held.incoming, context);
  } catch (error) {
    finish({ kind: "dead", reason: "invalid", error });
    return;
  }
  if (isThenable(body)) {
    body.then(
      ({ value }) => call(value, held, attempt, context, finish),
      (error: unknown) => finish({ kind: "dead", reason: "invalid", error }),
    );
  } else {
    call(body.value, held, attempt, context, finish);
  }
}

function call(
  body: unknown,
  held: InFlightDelivery,
  attempt: Attempt,
  context: AttemptContext,
  finish: (result: AttemptResult) => void,
): void {
  if (!context.begin(held, attempt)) {
    finish(DONE);
    return;
  }
  let result: HandlerResult | Promise<HandlerResult>;
  let isLater: boolean;
  try {
    result = context.handler(body, attempt.delivery);
    isLater = hasThen(result);
  } catch (error) {
    finish(failed(error));
    return;
  }
  if (!isLater) {
    finish(resultOf(result));
    return;
  }
  // A thenable that is no promise may answer twice, or throw from its then.
  Promise.resolve(result).then(
    (value) => finish(resultOf(value)),
    (error: unknown) => finish(failed(error)),
  );
}

function failed(error: unknown): AttemptResult {
  return { kind: "failed", error, afterMs: undefined };
}

/** What a handler returns may be anything, and looking at it may run code that throws. */
function resultOf(result: unknown): AttemptResult {
  try {
    return readResult(result);
  } catch (error) {
    return failed(error);
  }
}

function readResult(result: unknown): AttemptResult {
  switch (outcomeKind(result)) {
    case undefined:
      return DONE;
    case "dead-letter": {
      const { reason } = result as DeadLetterOutcome;
      if (typeof reason !== "string") break;
      return { kind: "dead", reason: "rejected", error: new MessagingError("refused", reason) };
    }
    case "postpone": {
      const { afterMs } = result as PostponeOutcome;
      if (!isTime(afterMs)) break;
      return { kind: "postponed", afterMs };
    }
    case "retry": {
      const { afterMs } = result as RetryOutcome;
      if (afterMs !== undefined && !isTime(afterMs)) break;
      return { kind: "failed", error: new MessagingError("refused", "the handler asked for a retry"), afterMs };
    }
  }
  return failed(
    new MessagingError(
      "invalid",
      "the handler returned an outcome that retry(), postpone() and deadLetter() do not make",
    ),
  );
}

function isTime(afterMs: unknown): boolean {
  return typeof afterMs === "number" && Number.isFinite(afterMs) && afterMs >= 0;
}

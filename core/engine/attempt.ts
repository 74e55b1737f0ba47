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
  | { readonly kind: "early"; readonly delayMs: number };

const DONE: Verdict = Object.freeze({ kind: "done" });

/** Why a delivery is not given to the handler, if it is not. */
export function obstacle({ incoming }: HeldDelivery, now: number): Verdict | undefined {
  const { headers, unreadable } = incoming;
  if (unreadable !== undefined) return { kind: "dead", reason: "invalid", error: unreadable };
  const expiresAt = numberHeader(headers, HEADER.expiresAt, 0);
  if (expiresAt !== 0 && now >= expiresAt) {
    const error = new MessagingError("timeout", `it was not delivered by ${new Date(expiresAt).toISOString()}`);
    return { kind: "dead", reason: "expired", error };
  }
  const dueAt = numberHeader(headers, HEADER.dueAt, 0);
  if (now < dueAt) return { kind: "early", delayMs: dueAt - now };
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

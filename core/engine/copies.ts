import type { OutgoingMessage } from "../adapter.ts";
import { describeAddress, type WorkAddress } from "../address.ts";
import type { DeadLetterReason } from "../events.ts";
import { thrownClass, thrownText } from "../foreign.ts";
import { LONGEST_MS } from "../names.ts";
import { HEADER, headerBytes, publishedAt, timeHeader, withHeaders } from "../system-headers.ts";
import type { InFlightDelivery } from "./in-flight-delivery.ts";

const LONGEST_ERROR = 1024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
const CONTROLS = /[\u0000-\u001f\u007f]+/g;

type Changes = Readonly<Record<string, string | undefined>>;

/** Everything about copying that does not change from message to message. */
export interface CopyContext {
  readonly now: number;
  readonly maxDelayMs: number;
}

/** A copy under the same id, with body and headers kept, delivered after `delayMs`. */
function copy(held: InFlightDelivery, context: CopyContext, delayMs: number, changes: Changes): OutgoingMessage {
  const { incoming } = held;
  const { now, maxDelayMs } = context;
  const headers = withHeaders(incoming.headers, {
    ...kept(held),
    ...changes,
    // The clock tells whole milliseconds, and the one that is under way has begun.
    [HEADER.dueAt]: delayMs > maxDelayMs ? String(now + 1 + delayMs) : undefined,
  });
  const expiresAt = timeHeader(headers, HEADER.expiresAt);
  return {
    id: incoming.id,
    key: incoming.key,
    routingKey: incoming.routingKey,
    headers,
    body: incoming.body,
    contentType: incoming.contentType,
    size: incoming.body.length + headerBytes(headers),
    priority: incoming.priority ?? 0,
    delayMs: Math.min(delayMs, maxDelayMs),
    ttlMs: expiresAt === undefined ? undefined : Math.min(Math.max(expiresAt - now, 1), LONGEST_MS),
    ...(incoming.foreign === undefined ? undefined : { foreign: incoming.foreign }),
  };
}

/** What is known of a message of another sender now, and could not be told from its copy. */
function kept({ incoming, firstPublishedAt }: InFlightDelivery): Changes {
  const { headers, id, expiresAt } = incoming;
  const known: Record<string, string> = {};
  if (publishedAt(headers, id) === undefined) known[HEADER.publishedAt] = String(firstPublishedAt);
  if (expiresAt !== undefined && timeHeader(headers, HEADER.expiresAt) === undefined) {
    known[HEADER.expiresAt] = String(expiresAt);
  }
  return known;
}

/** The copy that is tried again. */
export function retryCopy(held: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(held, context, delayMs, {
    [HEADER.attempts]: String(held.attempt),
    [HEADER.firstFailedAt]: held.firstFailedAt,
  });
}

/** The copy that waits for the rest of its delay. */
export function hopCopy(held: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(held, context, delayMs, {});
}

/** The copy that comes again as if it had not been tried; earlier attempts stay counted. */
export function postponedCopy(held: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(held, context, delayMs, {
    [HEADER.attempts]: String(held.attempt - 1),
    [HEADER.firstFailedAt]: held.firstFailedAt,
  });
}

/** Why and when a message ended, for its dead letter. */
export interface DeadLetterCause {
  readonly origin: WorkAddress;
  readonly reason: DeadLetterReason;
  /** How often a handler was started on it. */
  readonly attempts: number;
  readonly error: unknown;
}

/** The copy that stands in the dead letters and says why. */
export function deadLetterCopy(held: InFlightDelivery, context: CopyContext, cause: DeadLetterCause): OutgoingMessage {
  const now = new Date(context.now).toISOString();
  const { origin, reason, attempts, error } = cause;
  return copy(held, context, 0, {
    [HEADER.attempts]: undefined,
    [HEADER.firstFailedAt]: undefined,
    [HEADER.expiresAt]: undefined,
    [HEADER.deadReason]: reason,
    [HEADER.deadOrigin]: describeAddress(origin),
    [HEADER.deadErrorClass]: clean(thrownClass(error)) || "Error",
    [HEADER.deadError]: clean(thrownText(error)),
    [HEADER.deadAttempts]: String(attempts),
    [HEADER.deadFirstAt]: held.firstFailedAt ?? now,
    [HEADER.deadLastAt]: now,
    // Whoever sent it says nothing about where it is.
    [HEADER.deadReference]: undefined,
  });
}

/** Header values carry no control characters, lone surrogates or novels. */
export function clean(text: string, longest = LONGEST_ERROR): string {
  return text.replace(CONTROLS, " ").slice(0, longest).toWellFormed();
}

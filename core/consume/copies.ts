import type { OutgoingMessage } from "../adapter.ts";
import { describeAddress, type WorkAddress } from "../address.ts";
import type { Capabilities } from "../capabilities.ts";
import { LONGEST_MS } from "../checks.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../errors.ts";
import type { DeadLetterReason } from "../events.ts";
import { thrownClass, thrownText } from "../foreign.ts";
import { HEADER, headerBytes, publishedAt, timeHeader, withHeaders } from "../system-headers.ts";
import type { InFlightDelivery } from "./in-flight.ts";

/** Why a copy was not confirmed. */
export interface CopyRefusal {
  /**
   * - `message`: the broker never takes this copy, but perhaps a smaller one;
   * - `place`: nothing can be sent there now;
   * - `unclear`: anything else; the same copy may be taken later.
   */
  readonly kind: "message" | "place" | "unclear";
  readonly error: MessagingError;
}

const OF_THE_MESSAGE: readonly MessagingErrorCode[] = ["too-large", "invalid", "unsupported"];
const OF_THE_PLACE: readonly MessagingErrorCode[] = ["unauthorized", "not-found", "conflict", "unroutable"];

/** Classifies the rejection of a send. */
export function copyRefusal(cause: unknown): CopyRefusal {
  const error = isMessagingError(cause) ? cause : new MessagingError("refused", "the copy failed", { cause });
  // The next try after an unanswered one was refused for this cause, and would be again.
  const refusal = error.code === "unconfirmed" && isMessagingError(error.cause) ? error.cause : error;
  if (OF_THE_MESSAGE.includes(refusal.code)) return { kind: "message", error };
  return { kind: OF_THE_PLACE.includes(refusal.code) ? "place" : "unclear", error };
}

const LONGEST_ERROR = 1024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
const CONTROLS = /[\u0000-\u001f\u007f]+/g;

type Changes = Readonly<Record<string, string | undefined>>;

export interface CopyContext {
  readonly now: number;
  readonly maxDelayMs: number;
}

/** A copy under the same id, with body and headers kept, delivered after `delayMs`. */
function copy(delivery: InFlightDelivery, context: CopyContext, delayMs: number, changes: Changes): OutgoingMessage {
  const { incoming } = delivery;
  const { now, maxDelayMs } = context;
  const headers = withHeaders(incoming.headers, {
    ...knownOf(delivery),
    ...changes,
    // 1 more, because the clock gives whole milliseconds, and the current one has begun.
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

/** Headers that keep what the engine knows of another sender's message and cannot read from a copy. */
function knownOf({ incoming, firstPublishedAt }: InFlightDelivery): Changes {
  const { headers, id, expiresAt } = incoming;
  const known: Record<string, string> = {};
  if (publishedAt(headers, id) === undefined) known[HEADER.publishedAt] = String(firstPublishedAt);
  if (expiresAt !== undefined && timeHeader(headers, HEADER.expiresAt) === undefined) {
    known[HEADER.expiresAt] = String(expiresAt);
  }
  return known;
}

/** The copy for the next attempt. */
export function retryCopy(delivery: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(delivery, context, delayMs, {
    [HEADER.attempts]: String(delivery.attempt),
    [HEADER.firstFailedAt]: delivery.firstFailedAt,
  });
}

/** The copy that waits for the rest of a delay of several hops. */
export function hopCopy(delivery: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(delivery, context, delayMs, {});
}

/** The copy of a postponed message: this attempt does not count, earlier ones do. */
export function postponedCopy(delivery: InFlightDelivery, context: CopyContext, delayMs: number): OutgoingMessage {
  return copy(delivery, context, delayMs, {
    [HEADER.attempts]: String(delivery.attempt - 1),
    [HEADER.firstFailedAt]: delivery.firstFailedAt,
  });
}

/** Why a message is dead-lettered. */
export interface DeadLetterCause {
  readonly origin: WorkAddress;
  readonly reason: DeadLetterReason;
  /** How often a handler was started on it. */
  readonly attempts: number;
  readonly error: unknown;
}

/** The copy for the dead letters, with headers that say why. */
export function deadLetterCopy(
  delivery: InFlightDelivery,
  context: CopyContext,
  cause: DeadLetterCause,
): OutgoingMessage {
  const now = new Date(context.now).toISOString();
  const { origin, reason, attempts, error } = cause;
  return copy(delivery, context, 0, {
    [HEADER.attempts]: undefined,
    [HEADER.firstFailedAt]: undefined,
    [HEADER.expiresAt]: undefined,
    [HEADER.deadReason]: reason,
    [HEADER.deadOrigin]: describeAddress(origin),
    [HEADER.deadErrorClass]: clean(thrownClass(error)) || "Error",
    [HEADER.deadError]: clean(thrownText(error)),
    [HEADER.deadAttempts]: String(attempts),
    [HEADER.deadFirstAt]: delivery.firstFailedAt ?? now,
    [HEADER.deadLastAt]: now,
    // Only the adapter writes it: a value of another sender would be wrong.
    [HEADER.deadReference]: undefined,
  });
}

/** Makes a text fit for a header value: no control characters, no lone surrogates, not too long. */
export function clean(text: string, longest = LONGEST_ERROR): string {
  return text.replace(CONTROLS, " ").slice(0, longest).toWellFormed();
}

/** Only other senders use longer ones. */
const LONGEST_KEY_BYTES = 2_000;
const LONGEST_PROPERTY_BYTES = 255;
/** The engine itself writes none that are longer. */
const LONGEST_OWN_BYTES = 4_096;
const LONGEST_CUT = 1_024;
/** For the barest copy. */
const SHORT = 64;
const OWN: readonly string[] = Object.values(HEADER);
/** Names `foreign` in the header that says what was cut. */
const FOREIGN = "the sender's own properties";

/**
 * The copy without headers over the limits, and with a header that says what was cut; undefined if none is over them. The
 * body stays as it is. The sender's own properties stay while there is room.
 */
export function reducedCopy(
  letter: OutgoingMessage,
  limits: Pick<Capabilities, "maxHeaders" | "maxHeaderBytes">,
): OutgoingMessage | undefined {
  const cut: string[] = [];
  const headers: Record<string, string> = Object.create(null);
  let count = 0;
  let bytes = 0;
  for (const name in letter.headers) {
    const value = letter.headers[name] as string;
    const size = Buffer.byteLength(name) + Buffer.byteLength(value);
    if (OWN.includes(name) && size <= LONGEST_OWN_BYTES) {
      headers[name] = value;
    } else if (count < limits.maxHeaders && bytes + size <= limits.maxHeaderBytes) {
      headers[name] = value;
      count++;
      bytes += size;
    } else cut.push(`${name} (${size} bytes)`);
  }
  const properties = keptProperties(letter, cut);
  const { foreign, ...rest } = letter;
  const hasRoom = foreign === undefined || bytes + foreign.bytes <= limits.maxHeaderBytes;
  if (!hasRoom) cut.push(`${FOREIGN} (${foreign.bytes} bytes)`);
  if (cut.length === 0) return undefined;
  headers[HEADER.cut] = cutText(letter, cut, LONGEST_CUT);
  return sized({ ...(hasRoom ? letter : rest), ...properties, headers });
}

/**
 * The smallest copy that still says why: it has only the engine's own headers, with the beginning of the error. Undefined
 * if the copy is that small already.
 */
export function barestCopy(letter: OutgoingMessage): OutgoingMessage | undefined {
  const cut: string[] = [];
  const headers: Record<string, string> = Object.create(null);
  let shortened = false;
  for (const name in letter.headers) {
    const value = letter.headers[name] as string;
    if (!OWN.includes(name)) cut.push(name);
    else if (value.length <= SHORT) headers[name] = value;
    else {
      headers[name] = clean(value, SHORT);
      shortened = true;
    }
  }
  const properties = keptProperties(letter, cut);
  const { foreign, ...rest } = letter;
  if (foreign !== undefined) cut.push(FOREIGN);
  if (cut.length === 0 && !shortened) return undefined;
  if (cut.length > 0) headers[HEADER.cut] = cutText(letter, cut, 2 * SHORT);
  return sized({ ...rest, ...properties, headers });
}

/** Properties that AMQP, SQS and Kafka carry beside the headers; those that are too long are added to `cut`. */
function keptProperties(
  { key, routingKey, contentType }: OutgoingMessage,
  cut: string[],
): Pick<OutgoingMessage, "key" | "routingKey" | "contentType"> {
  const kept = (name: string, value: string | undefined, most: number): string | undefined => {
    if (value === undefined || Buffer.byteLength(value) <= most) return value;
    cut.push(`the ${name} (${Buffer.byteLength(value)} bytes)`);
    return undefined;
  };
  return {
    key: kept("key", key, LONGEST_KEY_BYTES),
    routingKey: kept("routing key", routingKey, LONGEST_PROPERTY_BYTES),
    contentType: kept("content type", contentType, LONGEST_PROPERTY_BYTES),
  };
}

/** As many names as there is room for, after those that an earlier copy lost. */
function cutText({ headers }: OutgoingMessage, cut: readonly string[], longest: number): string {
  const before = headers[HEADER.cut];
  const all = before === undefined ? cut : [before, ...cut];
  let text = "";
  for (const [index, name] of all.entries()) {
    const next = text === "" ? name : `${text}, ${name}`;
    const left = all.length - index - 1;
    const ending = left === 0 ? "" : `, and ${left} more`;
    if (next.length + ending.length > longest) {
      return clean(text === "" ? `${name.slice(0, SHORT)}…${ending}` : `${text}, and ${left + 1} more`, longest);
    }
    text = next;
  }
  return clean(text, longest);
}

function sized(message: OutgoingMessage): OutgoingMessage {
  return { ...message, size: message.body.length + headerBytes(message.headers) };
}

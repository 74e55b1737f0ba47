import type { MessageHeaders } from "./delivery.ts";
import { idTime } from "./message-ids.ts";

/** The prefix of the engine's own headers. */
export const SYSTEM_PREFIX = "anybroker-";

/** The engine's own headers. They are ordinary headers on every broker; handlers do not see them. */
export const HEADER = Object.freeze({
  /** Milliseconds since 1970 of the first publishing; absent where the id has the time. */
  publishedAt: "anybroker-published-at",
  /** The attempts on earlier copies of the message. */
  attempts: "anybroker-attempts",
  /** ISO time of the first failed attempt. */
  firstFailedAt: "anybroker-first-failed-at",
  /** Milliseconds since 1970 before which the message must not be handled; only on delays of several hops. */
  dueAt: "anybroker-due-at",
  /** Milliseconds since 1970 after which the message must not be handled. */
  expiresAt: "anybroker-expires-at",
  deadReason: "anybroker-dead-reason",
  /** The source of the message, such as `queue "orders"`. */
  deadOrigin: "anybroker-dead-origin",
  deadErrorClass: "anybroker-dead-error-class",
  /** The error's message, cut at 1,024 characters. */
  deadError: "anybroker-dead-error",
  deadAttempts: "anybroker-dead-attempts",
  /** ISO time of the first failed attempt. */
  deadFirstAt: "anybroker-dead-first-at",
  /** ISO time of the last failure. */
  deadLastAt: "anybroker-dead-last-at",
  /** On a dead letter that only refers to its message: where that is stored. The adapter writes it. */
  deadReference: "anybroker-dead-reference",
  /** The parts of the message that were cut for a copy; it stays on copies of that copy. */
  cut: "anybroker-cut",
  /** How often the message was replayed from the dead letters. */
  replays: "anybroker-replays",
  /** The last run that replayed it. */
  replayRun: "anybroker-replay-run",
  /** The id of the message of which this is an edited copy. */
  editedFrom: "anybroker-edited-from",
  /** How often the message was moved from one broker to another. */
  moves: "anybroker-moves",
});

/** On a message whose headers an adapter could not read, or not all of them: which, or why. */
export const HEADERS_NOT_READ = "anybroker-headers-not-read";

/** A fresh copy without the engine's own headers. */
export function userHeaders(headers: MessageHeaders): Record<string, string> {
  const own: Record<string, string> = Object.create(null);
  for (const name in headers) {
    if (!name.startsWith(SYSTEM_PREFIX)) own[name] = headers[name] as string;
  }
  return own;
}

/** A fresh copy with some headers set, and removed where the value is undefined. */
export function withHeaders(
  headers: MessageHeaders,
  changes: Readonly<Record<string, string | undefined>>,
): MessageHeaders {
  const copy: Record<string, string> = Object.create(null);
  for (const name in headers) copy[name] = headers[name] as string;
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) delete copy[name];
    else copy[name] = value;
  }
  return copy;
}

const COUNT = /^\d+$/;
const WHOLE_NUMBER = /^-?\d{1,16}$/;
/** The latest time of a `Date`, in milliseconds since 1970. */
const FURTHEST_TIME = 8_640_000_000_000_000;

/**
 * The whole number from 0 up in a header, or the fallback. A number above the latest time counts as that, because a
 * counter must not start again from the fallback.
 */
export function numberHeader(headers: MessageHeaders, name: string, fallback: number): number {
  const text = headers[name];
  return text === undefined || !COUNT.test(text) ? fallback : Math.min(Number(text), FURTHEST_TIME);
}

/** The time in a header, in milliseconds since 1970; undefined if there is none within the range of a `Date`. */
export function timeHeader(headers: MessageHeaders, name: string): number | undefined {
  const text = headers[name];
  if (text === undefined || !WHOLE_NUMBER.test(text)) return undefined;
  const value = Number(text);
  return Math.abs(value) <= FURTHEST_TIME ? value : undefined;
}

/** When a message was first published, by its headers or its id; undefined if neither has the time. */
export function publishedAt(headers: MessageHeaders, id: string): number | undefined {
  return timeHeader(headers, HEADER.publishedAt) ?? idTime(id);
}

/** The bytes of all names and values together, in UTF-8. */
export function headerBytes(headers: MessageHeaders): number {
  let bytes = 0;
  for (const name in headers) bytes += Buffer.byteLength(name) + Buffer.byteLength(headers[name] as string);
  return bytes;
}

import { createHash } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Delivery } from "./delivery.ts";
import { MessagingError, type MessagingErrorCode } from "./errors.ts";

/** The kind of a failure, and what to do next. */
export interface FailureReason {
  readonly code: MessagingErrorCode;
  readonly advice: string;
}

export const LOGIN_REFUSED: FailureReason = {
  code: "unauthorized",
  advice: "check the user and password of the connection",
};

const UNREACHABLE: FailureReason = { code: "unreachable", advice: "see the cause; the call can be repeated" };

/** The error of a failed call to a store's server; `unreachable` without a reason. Messages name `store`, as `idempotency store`. */
export function storeFailure(
  store: string,
  server: string,
  action: string,
  reason: FailureReason | undefined,
  cause: unknown,
): MessagingError {
  const { code, advice } = reason ?? UNREACHABLE;
  return new MessagingError(code, `the ${store}'s ${server} did not ${action}: ${advice}`, { cause });
}

/** The answer of a store, or why there is none. */
export type StoreAnswer<T> = { readonly value: T } | { readonly error: unknown };

/** Asks a store, as {@link inTime}, and never rejects. */
export async function ask<T>(
  store: string,
  clock: Clock,
  timeoutMs: number,
  call: () => Promise<T>,
  late?: (value: T) => void,
): Promise<StoreAnswer<T>> {
  try {
    return { value: await inTime(store, clock, timeoutMs, call, late) };
  } catch (error) {
    return { error };
  }
}

/**
 * Settles as the call does, or rejects with `timeout` after `timeoutMs`. A value that arrives later goes to `late`. Messages
 * name `store`, as `idempotency store`.
 */
export function inTime<T>(
  store: string,
  clock: Clock,
  timeoutMs: number,
  call: () => Promise<T>,
  late: (value: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      const what = `the ${store} did not answer within ${timeoutMs} ms`;
      reject(new MessagingError("timeout", `${what}: check that the database is up, or raise the timeout`));
    }, timeoutMs);
    const end = (settle: () => void): void => {
      clock.cancel(timer);
      settle();
    };
    // `async` turns what the call throws into a rejection.
    (async () => call())().then(
      (value) => (waiting ? end(() => resolve(value)) : late(value)),
      (error: unknown) => end(() => reject(error)),
    );
  });
}

const LONGEST_VERBATIM = 256;
const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * Turns any text into one that every store can keep, without collisions: printable ASCII of 256 characters or fewer stays,
 * the rest is hashed. Ids and keys of other senders can be anything, and a store would refuse some of them for ever.
 */
export function storableText(text: string): string {
  if (text.length <= LONGEST_VERBATIM && VERBATIM.test(text) && !text.startsWith(HASHED)) return text;
  // UTF-16 keeps texts apart that differ only in lone surrogates, which UTF-8 cannot encode.
  return `${HASHED}${createHash("sha256").update(Buffer.from(text, "utf16le")).digest("hex")}`;
}

/** The share of the remaining time that is reserved to apply the outcome before the engine's own timeout. */
const RESERVED = 1 / 5;
const MOST_RESERVED_MS = 500;

/** For how long, in milliseconds, a store may be asked or waited for: until shortly before the handler's time is over. */
export function spareMs({ remainingMs }: Delivery): number {
  return Math.floor(remainingMs - Math.min(remainingMs * RESERVED, MOST_RESERVED_MS));
}

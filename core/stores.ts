import { createHash } from "node:crypto";
import { checkInteger, checkOptions, LONGEST_MS } from "./checks.ts";
import type { Clock } from "./clock.ts";
import type { Delivery } from "./delivery.ts";
import { MessagingError, type MessagingErrorCode } from "./errors.ts";
import { observe } from "./foreign.ts";

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

const MOST_CAUSES = 8;

/** The address in a socket's error. It contains no login. */
interface NetworkError {
  readonly code?: unknown;
  readonly address?: unknown;
  readonly hostname?: unknown;
  readonly port?: unknown;
  readonly errors?: readonly unknown[];
  readonly cause?: unknown;
}

const NETWORK = /^(E(?:CONN[A-Z]+|HOST[A-Z]+|NET[A-Z]+|TIMEDOUT|PIPE|AI_AGAIN)|ENOTFOUND)$/;

function unreachable(cause: unknown): FailureReason {
  const found = networkError(cause, 0);
  if (found === undefined) return UNREACHABLE;
  const { address, hostname, port, code } = found;
  const host = typeof address === "string" ? address : typeof hostname === "string" ? hostname : undefined;
  const shown = host?.includes(":") ? `[${host}]` : host;
  const where = shown === undefined ? "" : ` ${shown}${typeof port === "number" ? `:${port}` : ""}`;
  const reach = where === "" ? "it cannot be reached" : `it cannot be reached at${where}`;
  const advice = `${reach} (${code}): check host and port, and that it runs; the call can be repeated`;
  return { code: "unreachable", advice };
}

/** Of an error, what it holds (one for each address that was tried), and its causes. */
function networkError(error: unknown, depth: number): NetworkError | undefined {
  if (typeof error !== "object" || error === null || depth > MOST_CAUSES) return undefined;
  const { errors, cause, code } = error as NetworkError;
  for (const one of Array.isArray(errors) ? errors.slice(0, 1) : []) {
    const found = networkError(one, depth + 1);
    if (found !== undefined) return found;
  }
  if (typeof code === "string" && NETWORK.test(code)) return error as NetworkError;
  return networkError(cause, depth + 1);
}

/** The error of a failed call to a store's server; `unreachable` without a reason. Messages name `store`, as `idempotency store`. */
export function storeFailure(
  store: string,
  server: string,
  action: string,
  reason: FailureReason | undefined,
  cause: unknown,
): MessagingError {
  const { code, advice } = reason ?? unreachable(cause);
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
 * Settles as the call does, or rejects with `timeout` after `timeoutMs`. A value that arrives later goes to `late`, which may
 * fail: the value may be of any shape. Messages name `store`, as `idempotency store`.
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
      (value) => (waiting ? end(() => resolve(value)) : observe(late, value)),
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

/** How a store is cleaned: at most `limit` records every `everyMs` milliseconds. */
interface CleanSettings {
  readonly everyMs: number;
  readonly limit: number;
}

/** Checks the option `clean` and fills in the defaults; undefined for `false`. Throws `invalid`. */
export function cleanSettings(
  where: string,
  given: Partial<CleanSettings> | false = {},
  defaults: CleanSettings = { everyMs: 60_000, limit: 1_000 },
): CleanSettings | undefined {
  if (given === false) return undefined;
  checkOptions(`${where} { clean }`, given, ["everyMs", "limit"]);
  const { everyMs = defaults.everyMs, limit = defaults.limit } = given;
  checkInteger(`${where} { clean: { everyMs } }`, everyMs, 1, LONGEST_MS);
  checkInteger(`${where} { clean: { limit } }`, limit, 1);
  return { everyMs, limit };
}

/** Cleans a store from time to time, beside the handlers, one cleaning at a time. */
export class Cleaning {
  readonly #clock: Clock;
  readonly #settings: CleanSettings | undefined;
  #running = false;
  #dueAt: number;

  constructor(clock: Clock, settings: CleanSettings | undefined) {
    this.#clock = clock;
    this.#settings = settings;
    // Random, so that processes that start together do not clean together.
    this.#dueAt = clock.monotonic() + (settings?.everyMs ?? 0) * Math.random();
  }

  /** Cleans if it is due. `remove` must not reject. A cleaning that reached its limit is followed by another. */
  async runIfDue(remove: (limit: number) => Promise<number>): Promise<void> {
    if (this.#settings === undefined || this.#running || this.#clock.monotonic() < this.#dueAt) return;
    const { everyMs, limit } = this.#settings;
    this.#running = true;
    const removed = await remove(limit);
    this.#dueAt = this.#clock.monotonic() + (removed >= limit ? 0 : everyMs);
    this.#running = false;
  }
}

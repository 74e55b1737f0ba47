import { createHash } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Delivery } from "./delivery.ts";
import { MessagingError, type MessagingErrorCode } from "./errors.ts";

/** The error code for a failure, and what to do next. */
export interface FailureReason {
  readonly code: MessagingErrorCode;
  readonly advice: string;
}

export const LOGIN_REFUSED: FailureReason = {
  code: "unauthorized",
  advice: "check the user and password of the connection",
};

/** The reasons for SQLSTATEs of Postgres that all stores share: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const POSTGRES_REASONS: Readonly<Record<string, FailureReason>> = {
  "28000": LOGIN_REFUSED,
  "28P01": LOGIN_REFUSED,
  "3F000": { code: "not-found", advice: "make the schema, or name the one that there is" },
  "25006": { code: "unreachable", advice: "the server takes no writes: connect to the primary" },
};

const MOST_CAUSES = 8;
const UNREACHABLE: FailureReason = { code: "unreachable", advice: "see the cause; the call may be made again" };

/** The error of a socket. It has the address, but nothing of the login. */
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
  const advice = `${reach} (${code}): check host and port, and that it runs; the call may be made again`;
  return { code: "unreachable", advice };
}

/** Finds a socket's error in an error, its parts (one per address tried) and its causes. */
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

/** The code of a server's error, such as the SQLSTATE of Postgres; empty if there is none. */
export function serverCode(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

const STATE = /^(?=.*\d)[0-9A-Z]{5}$/;

/** The SQLSTATE of an error, or of the first of its causes that has one; empty if there is none. */
export function stateOf(error: unknown): string {
  for (let one = error; one !== undefined && one !== null; one = (one as { readonly cause?: unknown }).cause) {
    const code = serverCode(one);
    if (STATE.test(code)) return code;
  }
  return "";
}

/** Whether Postgres refused the content of a row: data, constraints and errors of triggers (classes 22, 23 and P0). */
export function isOfTheRow(error: unknown): boolean {
  const state = serverCode(error);
  return STATE.test(state) && /^(22|23|P0)/.test(state);
}

/**
 * The error for a failed call to the server of a store; `unreachable` without a known reason. `store` is its name in error
 * messages, such as `idempotency store`.
 */
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

/** The answer of a store, or the error instead. */
export type Answer<T> = { readonly value: T } | { readonly error: unknown };

/**
 * Calls a store with a timeout. Never rejects. A late answer goes to `late`. `store` is its name in error messages, such
 * as `idempotency store`.
 */
export function ask<T>(
  store: string,
  clock: Clock,
  timeoutMs: number,
  call: () => Promise<T>,
  late: (value: T) => void = () => {},
): Promise<Answer<T>> {
  return new Promise((resolve) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      resolve({ error: new MessagingError("timeout", `the ${store} did not answer within ${timeoutMs} ms`) });
    }, timeoutMs);
    const end = (answer: Answer<T>): void => {
      if (!waiting) return;
      clock.cancel(timer);
      resolve(answer);
    };
    called(call).then(
      (value) => (waiting ? end({ value }) : late(value)),
      (error: unknown) => end({ error }),
    );
  });
}

/** Turns a throw into a rejection. */
async function called<T>(call: () => Promise<T>): Promise<T> {
  return call();
}

const LONGEST_VERBATIM = 256;
const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * Makes a text that every store can keep, different for different texts. Texts over 256 characters, or with other than
 * printable ASCII, are hashed. Ids and keys of other senders may be anything, and a refused one would fail for ever.
 */
export function storableText(text: string): string {
  if (text.length <= LONGEST_VERBATIM && VERBATIM.test(text) && !text.startsWith(HASHED)) return text;
  // In UTF-16, because UTF-8 would map different lone surrogates to one character.
  return `${HASHED}${createHash("sha256").update(Buffer.from(text, "utf16le")).digest("hex")}`;
}

/** The share of the remaining time to keep for the handler's own outcome, before the engine's timeout. */
const KEPT = 1 / 5;
const MOST_KEPT_MS = 500;

/** How long a store call may take, in milliseconds: until shortly before the handler's time is over. */
export function spareMs({ remainingMs }: Delivery): number {
  return Math.floor(remainingMs - Math.min(remainingMs * KEPT, MOST_KEPT_MS));
}

import { createHash } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Delivery } from "./delivery.ts";
import { MessagingError, type MessagingErrorCode } from "./errors.ts";

/** What kind of failure it is, and what to do next. */
export interface FailureReason {
  readonly code: MessagingErrorCode;
  readonly advice: string;
}

export const LOGIN_REFUSED: FailureReason = {
  code: "unauthorized",
  advice: "check the user and password of the connection",
};

/** What states of Postgres mean to every store. Keys are SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const POSTGRES_REASONS: Readonly<Record<string, FailureReason>> = {
  "28000": LOGIN_REFUSED,
  "28P01": LOGIN_REFUSED,
  "3F000": { code: "not-found", advice: "make the schema, or name the one that there is" },
  "25006": { code: "unreachable", advice: "the server takes no writes: connect to the primary" },
};

const MOST_CAUSES = 8;
const UNREACHABLE: FailureReason = { code: "unreachable", advice: "see the cause; the call may be made again" };

/** What a socket says of where it did not come to; nothing of a login is in it. */
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

/** The code that a server gave an error, as its client keeps it, such as the SQLSTATE of Postgres; empty if there is none. */
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

/** Whether Postgres refused a row for what is in it: data, constraints, and what triggers raise (classes 22, 23 and P0). */
export function isOfTheRow(error: unknown): boolean {
  const state = serverCode(error);
  return STATE.test(state) && /^(22|23|P0)/.test(state);
}

/**
 * Says of a failed question to a store's server what went wrong; `unreachable` where the reason is not known. `store` is
 * what messages call it, as in `idempotency store`.
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

/** The answer of a store, or why there is none. */
export type Answer<T> = { readonly value: T } | { readonly error: unknown };

/**
 * Asks a store, for so long. Never rejects. An answer that comes too late goes to `late`. `store` is what messages call
 * it, as in `idempotency store`.
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

/** What a call throws, it rejects with. */
async function called<T>(call: () => Promise<T>): Promise<T> {
  return call();
}

const LONGEST_VERBATIM = 256;
const VERBATIM = /^[\x20-\x7e]+$/;
const HASHED = "sha256=";

/**
 * A text as any store can keep it, told apart exactly from all others: as it is, or its hash if it is over 256 characters
 * or has others than printable ASCII. Ids and keys of other senders may be anything, and one that a store refuses would be
 * refused for ever.
 */
export function storableText(text: string): string {
  if (text.length <= LONGEST_VERBATIM && VERBATIM.test(text) && !text.startsWith(HASHED)) return text;
  // By code units: texts that differ only in what UTF-8 cannot carry stay apart.
  return `${HASHED}${createHash("sha256").update(Buffer.from(text, "utf16le")).digest("hex")}`;
}

/** What is kept of the time that is left, to say what became of a message before the engine says that it took too long. */
const KEPT = 1 / 5;
const MOST_KEPT_MS = 500;

/** For how long, in milliseconds, a store may be asked or waited for: until shortly before the handler's time is over. */
export function spareMs({ remainingMs }: Delivery): number {
  return Math.floor(remainingMs - Math.min(remainingMs * KEPT, MOST_KEPT_MS));
}

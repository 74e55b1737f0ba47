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

const UNREACHABLE: FailureReason = { code: "unreachable", advice: "see the cause; the call may be made again" };

/** The code that a server gave an error, as its client keeps it, such as the SQLSTATE of Postgres; empty if there is none. */
export function serverCode(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
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
  const { code, advice } = reason ?? UNREACHABLE;
  return new MessagingError(code, `the ${store}'s ${server} did not ${action}: ${advice}`, { cause });
}

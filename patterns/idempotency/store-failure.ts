import { MessagingError, type MessagingErrorCode } from "../../core/index.ts";

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

/** Says of a failed question to a store's server what went wrong; `unreachable` where the reason is not known. */
export function storeFailure(
  server: string,
  action: string,
  reason: FailureReason | undefined,
  cause: unknown,
): MessagingError {
  const { code, advice } = reason ?? UNREACHABLE;
  return new MessagingError(code, `the idempotency store's ${server} did not ${action}: ${advice}`, { cause });
}

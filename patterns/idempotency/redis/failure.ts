import type { MessagingError } from "../../../core/index.ts";
import { type FailureReason, LOGIN_REFUSED, storeFailure } from "../../../core/stores.ts";

/** By the first word of the server's error. */
const REASONS: Readonly<Record<string, FailureReason>> = {
  NOAUTH: LOGIN_REFUSED,
  WRONGPASS: LOGIN_REFUSED,
  NOPERM: { code: "unauthorized", advice: "give the user the rights that the documentation lists" },
  WRONGTYPE: { code: "refused", advice: "somebody else uses this very key; remove it, or choose another keyPrefix" },
  READONLY: { code: "unreachable", advice: "the server is a replica: connect to the primary" },
  OOM: { code: "unreachable", advice: "the server has no memory left" },
};

/** Says of a failed question to the server what went wrong and what to do. */
export function failure(action: string, cause: unknown): MessagingError {
  const [word = ""] = cause instanceof Error ? cause.message.split(" ", 1) : [];
  return storeFailure("idempotency store", "Redis", action, REASONS[word], withoutLogin(cause));
}

/** ioredis fails what waits with the error of its login, which holds the password. */
function withoutLogin(cause: unknown): unknown {
  if (!(cause instanceof Error) || !("command" in cause)) return cause;
  const { command } = cause as { readonly command?: { readonly name?: unknown } };
  return /^eval/i.test(String(command?.name)) ? cause : new Error(cause.message);
}

import { isMessagingError, type MessagingError } from "../../../core/index.ts";
import { type FailureReason, POSTGRES_REASONS, serverCode, stateOf, storeFailure } from "../../../core/stores.ts";
import { DUPLICATE_TABLE, NEWER } from "./versions.ts";

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, FailureReason>> = {
  ...POSTGRES_REASONS,
  "42501": {
    code: "unauthorized",
    advice: "grant the role USAGE on the schema and SELECT, INSERT, DELETE on the table; to migrate, CREATE",
  },
  "42P01": { code: "not-found", advice: "make its table with migrate(), or name the one that there is" },
  // Not `conflict`: of a handling that would say that the handler ended its transaction.
  "42703": { code: "unreachable", advice: "its table is another; give the inbox a table of its own" },
  [DUPLICATE_TABLE]: {
    code: "conflict",
    advice:
      "a table of its name is there, and no version is noted: somebody emptied or dropped the table that ends with _versions. Note the version that it has, as INSERT INTO …_versions (version) VALUES (1), or move it away, and migrate again",
  },
  [NEWER]: { code: "conflict", advice: "its table was made by a newer anybroker: install that one here too" },
};

/** Says of a failed question to the database what went wrong and what to do. The cause keeps the client's own error. */
export function inboxFailure(action: string, cause: unknown): MessagingError {
  return storeFailure("inbox", "Postgres", action, REASONS[serverCode(cause)], cause);
}

/**
 * Whether the server answered, and refused: then nothing of the transaction is kept. Not so where it went away, or closed
 * the connection (classes 08, 57P and 58), or the client did not get an answer.
 */
export function isRefusal(error: unknown): boolean {
  const state = serverCode(error);
  return state !== "" && state === stateOf(error) && !/^(08|57P|58)/.test(state);
}

/**
 * Whether a question that failed shows that the server takes no connections: it said so, or nobody listens, or whoever
 * does hangs up. Not so where the question only waited too long, which a pool without a free connection does too.
 */
export function isDown(error: unknown): boolean {
  const state = stateOf(error);
  if (state !== "") return state.startsWith("57P");
  const cause = isMessagingError(error) && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && !isMessagingError(cause) && !/timeout/i.test(cause.message);
}

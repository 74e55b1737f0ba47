import { MessagingError, type MessagingErrorCode } from "../../../core/index.ts";

interface Reason {
  readonly code: MessagingErrorCode;
  readonly advice: string;
}

const UNREACHABLE: Reason = { code: "unreachable", advice: "see the cause; the call may be made again" };
const LOGIN: Reason = { code: "unauthorized", advice: "check the user and password of the connection" };

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, Reason>> = {
  "28000": LOGIN,
  "28P01": LOGIN,
  "42501": {
    code: "unauthorized",
    advice: "grant the role USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on the table; to migrate, CREATE",
  },
  "42P01": {
    code: "not-found",
    advice: "make its table with migrate(), or name the one that there is; without USAGE on its schema it is not seen",
  },
  "3F000": { code: "not-found", advice: "make the schema, or name the one that there is" },
  "42703": { code: "conflict", advice: "its table is another; give the store a table of its own" },
  "42P10": { code: "conflict", advice: "its table has no primary key on key; make it with migrate()" },
  "25006": { code: "unreachable", advice: "the server takes no writes: connect to the primary" },
};

/** Says of a failed question to the database what went wrong and what to do. The cause keeps the client's own error. */
export function failure(action: string, cause: unknown): MessagingError {
  const state = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  const { code, advice } = REASONS[state] ?? UNREACHABLE;
  return new MessagingError(code, `the idempotency store's Postgres did not ${action}: ${advice}`, { cause });
}

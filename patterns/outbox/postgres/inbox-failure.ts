import { MessagingError, type MessagingErrorCode } from "../../../core/index.ts";

type Reason = readonly [code: MessagingErrorCode, advice: string];

const LOGIN: Reason = ["unauthorized", "check the user and password of the connection"];

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, Reason>> = {
  "28000": LOGIN,
  "28P01": LOGIN,
  "42501": [
    "unauthorized",
    "grant the role USAGE on the schema and SELECT, INSERT, DELETE on the table; to migrate, CREATE",
  ],
  "42P01": ["not-found", "make its table with migrate(), or name the one that there is"],
  "3F000": ["not-found", "make the schema, or name the one that there is"],
  "42703": ["unreachable", "its table is another; give the inbox a table of its own"],
  "42P10": ["unreachable", "its table has no primary key on consumer and message_id; make it with migrate()"],
  "25006": ["unreachable", "the server takes no writes: connect to the primary"],
};

/** Says of a failed question to the database what went wrong and what to do. The cause keeps the client's own error. */
export function inboxFailure(action: string, cause: unknown): MessagingError {
  const [code, advice] = REASONS[sqlState(cause)] ?? ["unreachable", "see the cause; the call may be made again"];
  return new MessagingError(code, `the inbox's Postgres did not ${action}: ${advice}`, { cause });
}

/** The code that the server gave an error, or empty. */
export function sqlState(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

/**
 * Whether the server answered, and refused: then nothing of the transaction is kept. Not so where it went away, or closed
 * the connection (classes 08, 57P and 58), or the client did not get an answer.
 */
export function isRefusal(error: unknown): boolean {
  const state = sqlState(error);
  return /^[0-9A-Z]{5}$/.test(state) && /\d/.test(state) && !/^(08|57P|58)/.test(state);
}

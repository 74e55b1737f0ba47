import type { MessagingError } from "../../../core/index.ts";
import { type FailureReason, isOfTheRow, POSTGRES_REASONS, serverCode, storeFailure } from "../../../core/stores.ts";

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, FailureReason>> = {
  ...POSTGRES_REASONS,
  "42501": {
    code: "unauthorized",
    advice: "grant the role USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on the table; to migrate, CREATE",
  },
  "42P01": {
    code: "not-found",
    advice: "make its table with migrate(), or name the one that there is; without USAGE on its schema it is not seen",
  },
  "42703": { code: "conflict", advice: "its table is another; give the store a table of its own" },
  "42P10": { code: "conflict", advice: "its table has no primary key on key; make it with migrate()" },
};

const OF_THE_ROW: FailureReason = {
  code: "refused",
  advice: "it refuses the record of this very key: look for a constraint or trigger of your own on its table",
};

/** Says of a failed question to the database what went wrong and what to do. The cause keeps the client's own error. */
export function failure(action: string, cause: unknown): MessagingError {
  const reason = isOfTheRow(cause) ? OF_THE_ROW : REASONS[serverCode(cause)];
  return storeFailure("idempotency store", "Postgres", action, reason, cause);
}

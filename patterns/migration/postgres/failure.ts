import type { MessagingError } from "../../../core/index.ts";
import { type FailureReason, POSTGRES_REASONS, serverCode, storeFailure } from "../../../core/stores.ts";

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, FailureReason>> = {
  ...POSTGRES_REASONS,
  "42501": {
    code: "unauthorized",
    advice: "grant the role USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on the tables; to migrate, CREATE",
  },
  "42P01": { code: "not-found", advice: "make its tables with migrate(), or name those that there are" },
  "42703": { code: "conflict", advice: "its tables are others; give the store tables of its own" },
};

/** Says of a failed question to the database what went wrong and what to do. The cause keeps the client's own error. */
export function failure(action: string, cause: unknown): MessagingError {
  return storeFailure("migration state store", "Postgres", action, REASONS[serverCode(cause)], cause);
}

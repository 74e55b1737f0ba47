import type { MessagingError } from "../../../core/index.ts";
import { type FailureReason, POSTGRES_REASONS, serverCode, storeFailure } from "../../../core/stores.ts";
import { DUPLICATE_TABLE, NEWER } from "./versions.ts";

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, FailureReason>> = {
  ...POSTGRES_REASONS,
  "42501": {
    code: "unauthorized",
    advice: "grant the role what docs/outbox.md lists for what it does: write, relay or migrate",
  },
  "42P01": {
    code: "not-found",
    advice:
      "make its tables with migrate(), or name those that there are; without USAGE on their schema they are not seen",
  },
  "42703": { code: "conflict", advice: "its tables are others, or older: bring them up to date with migrate()" },
  [DUPLICATE_TABLE]: {
    code: "conflict",
    advice:
      "tables of its names are there, and no version is noted: somebody emptied or dropped the table that ends with _versions. Note the version that they have, as INSERT INTO …_versions (version) VALUES (1), or move them away, and migrate again",
  },
  [NEWER]: { code: "conflict", advice: "its tables were made by a newer anybroker: install that here too" },
  "25P02": { code: "conflict", advice: "the transaction has failed before: roll it back" },
};

/**
 * Says of a failed question to the database what went wrong and what to do. The cause keeps the database's own error, and
 * not what query builders wrap around it: that quotes the values, which are messages.
 */
export function outboxFailure(action: string, error: unknown): MessagingError {
  const cause = databaseError(error) ?? error;
  return storeFailure("outbox store", "Postgres", action, REASONS[serverCode(cause)], cause);
}

/** The first of an error and its causes that has a state. */
function databaseError(error: unknown): unknown {
  for (let one = error; one instanceof Error; one = one.cause) if (/^[0-9A-Z]{5}$/.test(serverCode(one))) return one;
  return undefined;
}

import { type Clock, systemClock } from "../core/clock.ts";
import { MessagingError } from "../core/errors.ts";
import { type FailureReason, inTime, LOGIN_REFUSED, storeFailure } from "../core/stores.ts";

/**
 * What a store needs of a Postgres database. The `Pool` of `pg` fits; other clients need an executor of two lines. Each call
 * is one transaction, at the isolation level `READ COMMITTED`.
 */
export interface PostgresDatabase {
  /** Runs one statement, with values for `$1`, `$2` and so on. Resolves with its rows, with columns by name. */
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

/** The SQLSTATE that `PostgresSchema` raises when a newer anybroker made the tables. */
export const NEWER_VERSION = "AB001";

/** What SQLSTATEs mean to a store: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REASONS: Readonly<Record<string, FailureReason>> = {
  "28000": LOGIN_REFUSED,
  "28P01": LOGIN_REFUSED,
  "25006": { code: "unreachable", advice: "the server is read-only: connect to the primary" },
  "3F000": { code: "not-found", advice: "create the schema, or name an existing one" },
  "42501": {
    code: "unauthorized",
    advice:
      "grant the role USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its tables, or the fewer rights that the documentation lists; migrate() needs CREATE",
  },
  "42P01": {
    code: "not-found",
    advice:
      "create its tables with migrate(), or set { table, schema }; tables are invisible without USAGE on the schema",
  },
  "42703": { code: "conflict", advice: "its tables are older or of another program: call migrate(), or set { table }" },
  "42P10": { code: "conflict", advice: "its tables have no primary key: create them with migrate()" },
  "42P07": {
    code: "conflict",
    advice:
      "the tables exist, but no version is noted: the table that ends with _versions was emptied or dropped. Note the version, as INSERT INTO …_versions (version) VALUES (1), or move the tables away, and migrate again",
  },
  [NEWER_VERSION]: { code: "conflict", advice: "a newer anybroker made its tables: install that version here too" },
};

/** Asks a Postgres database one statement at a time, each within the time limit, and translates its errors. */
export class PostgresQueries {
  readonly #database: PostgresDatabase;
  readonly #store: string;
  readonly #timeoutMs: number;
  readonly #failure: (action: string, error: unknown) => MessagingError;
  readonly #clock: Clock = systemClock();

  /** `store` is its name in messages, as in `idempotency store`. `failure` translates errors, and knows more of them. */
  constructor(
    database: PostgresDatabase,
    store: string,
    timeoutMs: number,
    failure: (action: string, error: unknown) => MessagingError = (action, error) =>
      postgresFailure(store, action, error),
  ) {
    this.#database = database;
    this.#store = store;
    this.#timeoutMs = timeoutMs;
    this.#failure = failure;
  }

  /** Resolves with the rows. Rows that arrive after the time limit go to `late`. */
  async rows<Row = unknown>(
    action: string,
    text: string,
    values?: unknown[],
    late?: (rows: readonly Row[]) => void,
  ): Promise<readonly Row[]> {
    const call = async () => (await this.#database.query(text, values)).rows as readonly Row[];
    try {
      return await inTime(this.#store, this.#clock, this.#timeoutMs, call, late);
    } catch (error) {
      throw this.#failure(action, error);
    }
  }
}

/**
 * Translates an error of Postgres; `unreachable` if its reason is unknown. `reasons` are those of this store, by SQLSTATE.
 * The cause is the database's own error: query builders wrap it and quote the values, which are messages.
 */
export function postgresFailure(
  store: string,
  action: string,
  error: unknown,
  reasons: Readonly<Record<string, FailureReason>> = {},
): MessagingError {
  const cause = databaseError(error) ?? error;
  const state = stateOf(cause);
  return storeFailure(store, "Postgres", action, reasons[state] ?? REASONS[state], cause);
}

const STATE = /^(?=.*\d)[0-9A-Z]{5}$/;

/** The SQLSTATE of an error itself; empty if it has none. */
export function ownStateOf(error: unknown): string {
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  return STATE.test(code) ? code : "";
}

/** The SQLSTATE of an error, or of the first of its causes that has one; empty if there is none. */
export function stateOf(error: unknown): string {
  return ownStateOf(databaseError(error));
}

/** The first of an error and its causes that has a SQLSTATE. */
function databaseError(error: unknown): unknown {
  for (let one = error; one !== undefined && one !== null; one = (one as { readonly cause?: unknown }).cause) {
    if (ownStateOf(one) !== "") return one;
  }
  return undefined;
}

/** Whether Postgres refused a row for its content: data, constraints, and what triggers raise (classes 22, 23 and P0). */
export function isRowRefusal(error: unknown): boolean {
  return /^(22|23|P0)/.test(ownStateOf(error));
}

/** An expression for the time `ms` milliseconds from now. `clock_timestamp` advances while a statement waits for a lock. */
export function fromNow(ms: string): string {
  return `clock_timestamp() + ${ms}::float8 * interval '1 millisecond'`;
}

/*
 * Stores read every value as text. Applications register their own parsers in `pg` for other types, such as float8, bytea or
 * json, and these are global.
 */

/** Makes a SELECT return each row as one JSON text, for {@link rowOf}. Columns may have any type except bytea. */
export function asTexts(select: string): string {
  return `SELECT row_to_json("#row")::text AS row FROM (${select}) "#row"`;
}

/** Parses a row of a statement that {@link asTexts} made. Throws `invalid` if the client changed the text. */
export function rowOf<Row>(answer: unknown): Row {
  const { row } = answer as { readonly row?: unknown };
  try {
    if (typeof row === "string") return JSON.parse(row) as Row;
  } catch {
    // JSON.parse quotes the text in its message.
  }
  throw changedByClient();
}

/** Parses a whole number that a statement returns as text. Throws `invalid` if the client changed the text. */
export function wholeNumber(text: unknown): number {
  const number = typeof text === "string" && /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw changedByClient();
}

function changedByClient(): MessagingError {
  return new MessagingError(
    "invalid",
    "the database client changes texts that Postgres sends: remove its parser for the type text (25), or give the store a client without it",
  );
}

import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { isMessagingError, type MessagingError } from "../../../core/index.ts";
import { type FailureReason, POSTGRES_REASONS, serverCode, stateOf, storeFailure } from "../../../core/stores.ts";
import { quotedNames } from "../../../sql/tables.ts";
import { DUPLICATE_TABLE, NEWER, Versions } from "./migrations.ts";

/** What the inbox needs of a pool of connections: the `Pool` of `pg` fits as it is. */
export interface PostgresInboxPool<Client extends PostgresInboxClient> {
  /** Lends a connection. */
  connect(): Promise<Client>;
}

/** A pool that lends connections to callbacks too, as that of `pg`: the type of a connection is seen by this one. */
export interface CallbackPool<Client extends PostgresInboxClient> extends PostgresInboxPool<Client> {
  connect(): Promise<Client>;
  connect(callback: (error: never, client: Client | undefined, done: never) => void): void;
}

/** A connection that a pool lent: the `PoolClient` of `pg` fits as it is, and is what handlers get. */
export interface PostgresInboxClient {
  /** Runs one statement, or without values several; resolves with the result, or an array of them. */
  query(text: string, values?: unknown[]): Promise<unknown>;
  /** Gives the connection back, or with `true` closes it. */
  release(close?: boolean): void;
  on(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
  off(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
}

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const REASONS: Readonly<Record<string, FailureReason>> = {
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

/** Where the rows of handled messages are. */
export interface PostgresInboxTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form, 63 at most. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

/** The quoted names of the tables. */
export interface InboxTables {
  readonly inbox: string;
  /** The versions that were migrated to. */
  readonly versions: string;
}

/** The options of {@link postgresInboxSql}. */
export interface PostgresInboxSqlOptions extends PostgresInboxTableOptions {
  /** The version that the table has already; 0, the default, is none. */
  readonly from?: number;
}

/**
 * The statements that make the table, for a team's own migration tool: each to run once, in order, by a role that may
 * create in the schema. The inbox's `migrate` runs the same, and knows of both which versions were reached. A version that
 * was released is never changed; a new one comes with an entry in the change log. Throws `invalid` for wrong options.
 */
export function postgresInboxSql(options: PostgresInboxSqlOptions = {}): readonly string[] {
  checkOptions("postgresInboxSql", options, ["table", "schema", "from"]);
  const { from = 0 } = options;
  const versions = inboxVersions(inboxTables("postgresInboxSql", options));
  checkInteger("postgresInboxSql { from }", from, 0, versions.last);
  return versions.from(from);
}

/** Checks the names and quotes them. Throws `invalid`. */
export function inboxTables(
  where: string,
  { schema, table = "anybroker_inbox" }: PostgresInboxTableOptions,
): InboxTables {
  const named = quotedNames(where, schema, table);
  return { inbox: named(""), versions: named("_versions") };
}

/** The table over its versions. */
export function inboxVersions(tables: InboxTables): Versions {
  return new Versions(tables.versions, [first(tables)]);
}

export function first({ inbox }: InboxTables): readonly string[] {
  return [
    `CREATE TABLE ${inbox} (
  consumer text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, message_id)
)`,
    `CREATE INDEX ON ${inbox} (consumer, handled_at)`,
  ];
}

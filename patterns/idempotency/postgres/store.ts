import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, type MessagingError, systemClock } from "../../../core/index.ts";
import {
  ask,
  type FailureReason,
  isOfTheRow,
  POSTGRES_REASONS,
  serverCode,
  storeFailure,
} from "../../../core/stores.ts";
import { wholeNumber } from "../../../sql/postgres.ts";
import { quotedNames, unlessThere } from "../../../sql/tables.ts";
import type { ClaimResult, IdempotencyStore } from "../store.ts";

/**
 * What the store needs of a database: the `Pool` of `pg` fits as it is, and an executor of two lines for other clients.
 * Each call is a transaction of its own.
 */
export interface PostgresDatabase {
  /** Runs one statement, with values for `$1`, `$2` and so on; resolves with its rows, their columns by name. */
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

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
function failure(action: string, cause: unknown): MessagingError {
  const reason = isOfTheRow(cause) ? OF_THE_ROW : REASONS[serverCode(cause)];
  return storeFailure("idempotency store", "Postgres", action, reason, cause);
}

/** The statements of the store. Each is right at READ COMMITTED, Postgres' default, however many run at once. */
interface Statements {
  readonly claim: string;
  readonly renew: string;
  readonly complete: string;
  readonly release: string;
  readonly clean: string;
}

/** A later time, so many milliseconds from now. The time of day goes on within a statement that waits for a lock. */
const later = (value: string): string => `clock_timestamp() + ${value}::float8 * interval '1 millisecond'`;

/** The statements for a table, given its quoted name. */
function statements(name: string): Statements {
  return {
    // One round trip. What stands and has not ended is told, with nothing written; otherwise the row is made, or taken
    // over if it has ended, which Postgres decides on the row's latest version with the row locked. No row comes back
    // only if somebody else was faster since the statement began: what they did is not to be seen in its snapshot.
    claim: `
WITH standing AS MATERIALIZED (
  SELECT done, extract(epoch FROM ends_at - clock_timestamp()) * 1000 AS remaining
  FROM ${name} WHERE key = $1 AND ends_at > clock_timestamp()
), claimed AS (
  INSERT INTO ${name} AS held (key, token, done, ends_at)
  SELECT $1::text, $2::uuid, false, ${later("$3")} WHERE NOT EXISTS (SELECT FROM standing)
  ON CONFLICT (key) DO UPDATE SET token = excluded.token, done = false, ends_at = ${later("$3")}
  WHERE held.ends_at <= clock_timestamp()
  RETURNING 1
)
SELECT 'claimed' AS status, '0' AS remaining FROM claimed
UNION ALL
SELECT CASE WHEN done THEN 'done' ELSE 'busy' END, ceil(greatest(remaining, 0))::bigint::text FROM standing`,
    renew: `UPDATE ${name} SET ends_at = ${later("$3")} WHERE key = $1 AND token = $2 AND NOT done RETURNING 1`,
    complete: `UPDATE ${name} SET done = true, ends_at = ${later("$3")} WHERE key = $1 AND token = $2 RETURNING 1`,
    release: `DELETE FROM ${name} WHERE key = $1 AND token = $2 AND NOT done RETURNING 1`,
    // An array, so that the choice is made once. Rows that another cleaner or a claim holds are left to them; those that
    // are locked here have ended in their latest version, and stay so until they are gone.
    clean: `
WITH removed AS (
  DELETE FROM ${name} WHERE key = ANY (ARRAY(
    SELECT key FROM ${name} WHERE ends_at < now() ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM removed`,
  };
}

/** Where the records are. */
export interface PostgresIdempotencyTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form, 63 at most. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

/**
 * The statements that make the table, for a team's own migration tool: each is to run once, by a role that may create in
 * the schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresIdempotencySql(options: PostgresIdempotencyTableOptions = {}): readonly string[] {
  checkOptions("postgresIdempotencySql", options, ["table", "schema"]);
  return tableSql(tableName("postgresIdempotencySql", options));
}

/** The quoted name of the table. Throws `invalid`. */
function tableName(
  where: string,
  { schema, table = "anybroker_idempotency" }: PostgresIdempotencyTableOptions,
): string {
  return quotedNames(where, schema, table)("");
}

function tableSql(name: string): readonly string[] {
  return [
    `CREATE TABLE ${name} (
  key text COLLATE "C" PRIMARY KEY,
  token uuid NOT NULL,
  done boolean NOT NULL,
  ends_at timestamptz NOT NULL
)`,
    `CREATE INDEX ON ${name} (ends_at)`,
  ];
}

/** One statement that makes the table unless it is there; of several at once the later ones find it. */
function migration(name: string): string {
  return unlessThere("anybroker_idempotency", name, tableSql(name));
}

/** The options of {@link postgresIdempotencyStore}. */
export interface PostgresIdempotencyStoreOptions extends PostgresIdempotencyTableOptions {
  /** Milliseconds after which a call that got no answer rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

/** A store in a Postgres database. */
export interface PostgresIdempotencyStore extends IdempotencyStore {
  /**
   * Makes the table unless it is there, also if many do at once. Only the first time it needs the right to create in the
   * schema. Rejects like the other calls, and with `not-found` if there is no such schema.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * A store in a Postgres database, with one statement to a call. Its time is the database server's.
 *
 * Give it a pool, never a client with an open transaction, whose rollback would take back the claim. The store never
 * ends the pool. A claim whose answer came too late is released when it comes. Throws `invalid` for wrong options.
 */
export function postgresIdempotencyStore(
  database: PostgresDatabase,
  options: PostgresIdempotencyStoreOptions = {},
): PostgresIdempotencyStore {
  checkOptions("postgresIdempotencyStore", options, ["table", "schema", "timeoutMs"]);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger("postgresIdempotencyStore { timeoutMs }", timeoutMs, 1);
  return new PostgresStore(database, tableName("postgresIdempotencyStore", options), timeoutMs);
}

interface Standing {
  readonly status: ClaimResult["status"];
  /** In whole milliseconds, as a text. */
  readonly remaining: unknown;
}

class PostgresStore implements PostgresIdempotencyStore {
  readonly name = "postgres";
  readonly #database: PostgresDatabase;
  readonly #table: string;
  readonly #statements: Statements;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();

  constructor(database: PostgresDatabase, table: string, timeoutMs: number) {
    this.#database = database;
    this.#table = table;
    this.#statements = statements(table);
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await this.#ask("make the table", migration(this.#table));
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    const late = ([row]: readonly unknown[]): void => {
      if ((row as Standing | undefined)?.status === "claimed") this.release(key, token).catch(() => undefined);
    };
    for (;;) {
      const rows = await this.#ask("take a claim", this.#statements.claim, [key, token, leaseMs], late);
      const [found] = rows as readonly Standing[];
      // Whoever was faster since the statement began is to be seen now.
      if (found === undefined) continue;
      if (found.status === "claimed") return { status: "claimed", token };
      return found.status === "done"
        ? { status: "done" }
        : { status: "busy", remainingMs: wholeNumber(found.remaining) };
    }
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const rows = await this.#ask("renew a claim", this.#statements.renew, [key, token, leaseMs]);
    return rows.length > 0 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    const rows = await this.#ask("take a completion", this.#statements.complete, [key, token, retentionMs]);
    return rows.length > 0 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    const rows = await this.#ask("take a release", this.#statements.release, [key, token]);
    return rows.length > 0 ? "released" : "lost";
  }

  async clean(limit: number): Promise<number> {
    const [row] = await this.#ask("clean up", this.#statements.clean, [limit]);
    return wholeNumber((row as { readonly removed: unknown }).removed);
  }

  async #ask(
    action: string,
    text: string,
    values?: unknown[],
    late?: (rows: readonly unknown[]) => void,
  ): Promise<readonly unknown[]> {
    const call = async () => (await this.#database.query(text, values)).rows;
    const answer = await ask("idempotency store", this.#clock, this.#timeoutMs, call, late);
    if ("value" in answer) return answer.value;
    throw failure(action, answer.error);
  }
}

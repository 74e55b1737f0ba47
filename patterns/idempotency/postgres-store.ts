import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import type { MessagingError } from "../../core/errors.ts";
import { storeFailure } from "../../core/stores.ts";
import {
  fromNow,
  isRowRefusal,
  type PostgresDatabase,
  PostgresQueries,
  postgresFailure,
  wholeNumber,
} from "../../sql/postgres.ts";
import { quotedNames, unlessExists } from "../../sql/schema.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

export type { PostgresDatabase } from "../../sql/postgres.ts";

/** Where the records are stored. */
export interface PostgresIdempotencyTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** The schema's name, of the same form, 63 at most. Default: by the connection's `search_path`. */
  readonly schema?: string;
}

/** The options of {@link postgresIdempotencyStore}. */
export interface PostgresIdempotencyStoreOptions extends PostgresIdempotencyTableOptions {
  /** Milliseconds after which a call without an answer rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

/** A store in a Postgres database. */
export interface PostgresIdempotencyStore extends IdempotencyStore {
  /**
   * Creates a missing table, also with concurrent calls. Only the first call needs the right to create in the schema.
   * Rejects like the other calls, and with `not-found` for a missing schema.
   */
  migrate(): Promise<void>;
}

/** Its name in messages. */
const STORE = "idempotency store";
const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * A store in a Postgres database, with one statement per call. It uses the database server's time.
 *
 * Give it a pool, never a client with an open transaction, whose rollback would undo the claim. The store never ends the
 * pool. It releases a claim whose answer came too late. Throws `invalid` for wrong options.
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

/**
 * The statements that create the table, for your own migration tool. Run each once, with a role that may create in the
 * schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresIdempotencySql(options: PostgresIdempotencyTableOptions = {}): readonly string[] {
  checkOptions("postgresIdempotencySql", options, ["table", "schema"]);
  return tableSql(tableName("postgresIdempotencySql", options));
}

interface Claimed {
  readonly status: ClaimResult["status"];
  /** In whole milliseconds, as a text. */
  readonly remaining: unknown;
}

class PostgresStore implements PostgresIdempotencyStore {
  readonly name = "postgres";
  readonly #table: string;
  readonly #statements: ReturnType<typeof statements>;
  readonly #queries: PostgresQueries;

  constructor(database: PostgresDatabase, table: string, timeoutMs: number) {
    this.#table = table;
    this.#statements = statements(table);
    this.#queries = new PostgresQueries(database, STORE, timeoutMs, failure);
  }

  async migrate(): Promise<void> {
    await this.#queries.rows(
      "create the table",
      unlessExists("anybroker_idempotency", this.#table, tableSql(this.#table)),
    );
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    const late = ([row]: readonly Claimed[]): void => {
      if (row?.status === "claimed") this.release(key, token).catch(() => undefined);
    };
    for (;;) {
      const values = [key, token, leaseMs];
      const [found] = await this.#queries.rows<Claimed>("claim a key", this.#statements.claim, values, late);
      // A faster claim was invisible to the statement. The next statement sees it.
      if (found === undefined) continue;
      if (found.status === "claimed") return { status: "claimed", token };
      return found.status === "done"
        ? { status: "done" }
        : { status: "busy", remainingMs: wholeNumber(found.remaining) };
    }
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const rows = await this.#queries.rows("renew a claim", this.#statements.renew, [key, token, leaseMs]);
    return rows.length > 0 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    const rows = await this.#queries.rows("complete a claim", this.#statements.complete, [key, token, retentionMs]);
    return rows.length > 0 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    const rows = await this.#queries.rows("release a claim", this.#statements.release, [key, token]);
    return rows.length > 0 ? "released" : "lost";
  }

  async clean(limit: number): Promise<number> {
    const [row] = await this.#queries.rows("clean up", this.#statements.clean, [limit]);
    return wholeNumber((row as { readonly removed: unknown }).removed);
  }
}

/** Translates an error; the refusal of one record is `refused`. */
function failure(action: string, cause: unknown): MessagingError {
  if (!isRowRefusal(cause)) return postgresFailure(STORE, action, cause);
  const advice = "it refuses the record of this key: look for your own constraint or trigger on its table";
  return storeFailure(STORE, "Postgres", action, { code: "refused", advice }, cause);
}

/** Checks and quotes the table's name. Throws `invalid`. */
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

/** The statements for a quoted table. Each is correct at READ COMMITTED, Postgres' default, with any concurrency. */
function statements(name: string) {
  return {
    // One round trip. A record that has not ended is returned, and nothing is written. Otherwise the record is inserted, or
    // taken over if its latest version, locked, has ended. No row comes back only if another claim was faster since the
    // statement began: its snapshot does not show that claim.
    claim: `
WITH existing AS MATERIALIZED (
  SELECT done, extract(epoch FROM ends_at - clock_timestamp()) * 1000 AS remaining
  FROM ${name} WHERE key = $1 AND ends_at > clock_timestamp()
), claimed AS (
  INSERT INTO ${name} AS held (key, token, done, ends_at)
  SELECT $1::text, $2::uuid, false, ${fromNow("$3")} WHERE NOT EXISTS (SELECT FROM existing)
  ON CONFLICT (key) DO UPDATE SET token = excluded.token, done = false, ends_at = ${fromNow("$3")}
  WHERE held.ends_at <= clock_timestamp()
  RETURNING 1
)
SELECT 'claimed' AS status, '0' AS remaining FROM claimed
UNION ALL
SELECT CASE WHEN done THEN 'done' ELSE 'busy' END, ceil(greatest(remaining, 0))::bigint::text FROM existing`,
    renew: `UPDATE ${name} SET ends_at = ${fromNow("$3")} WHERE key = $1 AND token = $2 AND NOT done RETURNING 1`,
    complete: `UPDATE ${name} SET done = true, ends_at = ${fromNow("$3")} WHERE key = $1 AND token = $2 RETURNING 1`,
    release: `DELETE FROM ${name} WHERE key = $1 AND token = $2 AND NOT done RETURNING 1`,
    // The array makes Postgres choose the rows once. Rows locked by another cleaner or a claim are skipped. The chosen rows
    // have ended in their latest version and are locked until they are deleted.
    clean: `
WITH removed AS (
  DELETE FROM ${name} WHERE key = ANY (ARRAY(
    SELECT key FROM ${name} WHERE ends_at < now() ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM removed`,
  };
}

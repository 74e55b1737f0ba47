import { createHash } from "node:crypto";
import { LONGEST_MS } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/index.ts";
import { asTexts } from "../../../sql/postgres.ts";
import { quotedNames } from "../../../sql/tables.ts";
import { type OutboxRow, outboxRowOf, type QuarantinedRow } from "../store.ts";
import { rowShards } from "./shards.ts";

/** Where the rows are. */
export interface PostgresOutboxTableOptions {
  /**
   * The name of the table of what is not sent, and what the names of the others begin with: letters, digits and `_`, no
   * digit first, 50 at most. Default `anybroker_outbox`.
   */
  readonly table?: string;
  /**
   * The name of the schema they are in, of the same form, 63 at most. Default: whichever the connection's `search_path`
   * leads to.
   */
  readonly schema?: string;
}

/** The quoted names of the tables, and the name of the channel that writers notify. */
export interface Tables {
  /** Rows that are not sent. */
  readonly outbox: string;
  /** The locks of keys: one row a shard. */
  readonly shards: string;
  /** Sent rows that are kept. */
  readonly sent: string;
  /** The versions that were migrated to. */
  readonly versions: string;
  readonly channel: string;
}

/** Checks the names and quotes them. Throws `invalid`. */
export function tablesOf(where: string, { schema, table = "anybroker_outbox" }: PostgresOutboxTableOptions): Tables {
  const named = quotedNames(where, schema, table);
  return {
    outbox: named(""),
    shards: named("_shards"),
    sent: named("_sent"),
    versions: named("_versions"),
    channel: `anybroker_${createHash("sha256").update(named("")).digest("hex").slice(0, 32)}`,
  };
}

/** A row as the statements tell it, in JSON. */
export interface StoredRow {
  readonly position: number;
  readonly shard: number;
  readonly id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  /** In hexadecimal digits. */
  readonly body: string;
  /** How many bytes the body has, as the server counts them. */
  readonly bytes: number;
  readonly content_type: string;
  readonly priority: number;
  readonly ordered: boolean;
  readonly discard_unroutable: boolean;
  readonly attempts: number;
  readonly expires_at: number | null;
  readonly created_at: number;
}

/** A quarantined row as the statements tell it. */
interface StoredQuarantinedRow extends StoredRow {
  readonly error_code: string | null;
  readonly error: string | null;
  readonly holds: boolean;
  readonly quarantined_at: number;
}

/** Refuses a row of which nobody could say later what became of it; throws `invalid`. */
export function settleable(row: StoredRow): StoredRow {
  const { position, shard, attempts } = row;
  if ([position, shard, attempts].every(Number.isSafeInteger)) return row;
  throw new MessagingError("invalid", `a row of the outbox is not what was written: ${CHANGED}`);
}

const CHANGED = "whatever stands between the store and the server changes its answers";

export function outboxRow(row: StoredRow): OutboxRow {
  const { position, attempts, id, kind, destination, key, headers, priority, ordered } = row;
  return outboxRowOf(
    {
      position,
      attempts,
      id,
      kind,
      destination,
      key,
      routingKey: row.routing_key,
      headers,
      body: bodyOf(row),
      contentType: row.content_type,
      priority,
      expiresAt: row.expires_at,
      ordered,
      discardUnroutable: row.discard_unroutable,
      createdAt: row.created_at,
    },
    CHANGED,
  );
}

/** A body that is no hexadecimal digits throughout ends with the first that is none. */
function bodyOf({ body, bytes }: StoredRow): Uint8Array | undefined {
  const read = Buffer.from(String(body), "hex");
  return read.length === bytes && body.length === 2 * bytes ? read : undefined;
}

export function quarantinedRow(row: StoredQuarantinedRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error ?? "" },
    quarantinedAt: row.quarantined_at,
    holdsKey: row.holds,
  };
}

/**
 * The statements of the store. Each is right at READ COMMITTED, Postgres' default, however many run at once. What is named
 * within one begins with #, which no table's name has: it would hide a table that is called alike.
 */
export interface Statements {
  readonly takeShards: string;
  /** The shards that are to be there, and are not. */
  readonly missingShards: string;
  readonly makeShards: string;
  readonly readShards: string;
  readonly renew: string;
  /** Of any outcomes. */
  readonly settle: string;
  /** Where all were sent: what relays say nearly always, and less than half as dear to plan. */
  readonly settleSent: string;
  readonly listQuarantined: string;
  readonly retryQuarantined: string;
  readonly discardQuarantined: string;
  readonly clean: string;
}

/** A later time, so many milliseconds from now. */
const later = (value: string): string => `statement_timestamp() + ${value}::float8 * interval '1 millisecond'`;
const milliseconds = (time: string): string => `(extract(epoch FROM ${time}) * 1000)::float8`;

/** What a {@link OutboxRow} is made of, from a row called `o`. */
const ROW = `o.position::float8 AS position, o.shard, o.id, o.kind, o.destination, o.key, o.routing_key,
  o.headers, encode(o.body, 'hex') AS body, octet_length(o.body) AS bytes, o.content_type, o.priority, o.ordered, o.discard_unroutable, o.attempts,
  round(${milliseconds("o.expires_at")}) AS expires_at, ${milliseconds("o.created_at")} AS created_at`;

/** What JavaScript can tell from other positions. Nobody could say what became of a row beyond. */
const SAFE = `o.position BETWEEN -${Number.MAX_SAFE_INTEGER} AND ${Number.MAX_SAFE_INTEGER}`;

/** A row as it was when it was written. */
const ANEW = "quarantined_at = NULL, holds = false, attempts = 0, due_at = NULL, error_code = NULL, error = NULL";

const MOVED = `position, shard, id, kind, destination, key, routing_key, headers, body, content_type, priority, due_at,
  expires_at, ordered, discard_unroutable, attempts, error_code, error, created_at`;

/** The statements for tables, and whether what is sent is kept. */
export function statements({ outbox, shards, sent }: Tables, keep: boolean): Statements {
  // Behind a row of its key that failed nothing goes that is later.
  const free = `NOT (o.ordered AND EXISTS (SELECT FROM ${outbox} h
    WHERE h.holds AND h.destination = o.destination AND h.key = o.key AND h.kind = o.kind AND h.position < o.position))`;
  const atOnce = (shard: string): string =>
    `o.shard = ${shard} AND o.due_at IS NULL AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const gone = `"#gone" AS (
  DELETE FROM ${outbox} WHERE position = ANY ($2::bigint[]) RETURNING ${keep ? MOVED : "position"}
)${keep ? `, "#kept" AS (INSERT INTO ${sent} (${MOVED}) SELECT ${MOVED} FROM "#gone")` : ""}`;
  const freed = `"#freed" AS (
  UPDATE ${shards} SET token = NULL, relay = NULL, ends_at = '-infinity'
  WHERE token = $1::uuid AND shard = ANY ($3::smallint[])
)`;
  const timed = (shard: string): string =>
    `o.shard = ${shard} AND o.due_at <= statement_timestamp() AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const missing = `SELECT s.shard FROM ${rowShards(outbox)} s WHERE NOT EXISTS (SELECT FROM ${shards} l WHERE l.shard = s.shard)`;
  return {
    // Shards that have something to claim and that nobody holds, those with the oldest first. The rows are read by a
    // statement of its own: this one's snapshot may be older than the end of the claim before. OFFSET 0 keeps the planner
    // from looking for the oldest twice. A lease that ends later than any can is none.
    takeShards: `
WITH "#free" AS (
  SELECT l.shard FROM ${shards} l CROSS JOIN LATERAL (SELECT least(
    (SELECT o.position FROM ${outbox} o WHERE ${timed("l.shard")} ORDER BY o.due_at LIMIT 1),
    (SELECT o.position FROM ${outbox} o WHERE ${atOnce("l.shard")} ORDER BY o.shard, o.position LIMIT 1)
  ) AS first OFFSET 0) oldest
  WHERE (l.ends_at <= statement_timestamp() OR l.ends_at > ${later(String(LONGEST_MS))}) AND oldest.first IS NOT NULL
  ORDER BY oldest.first LIMIT $4::integer FOR NO KEY UPDATE OF l SKIP LOCKED
)
UPDATE ${shards} l SET token = $1::uuid, relay = $2::text, ends_at = ${later("$3")}
FROM "#free" f WHERE l.shard = f.shard
RETURNING l.shard::text AS shard`,
    missingShards: `SELECT shard::text AS shard FROM (${missing}) missing`,
    makeShards: `INSERT INTO ${shards} (shard) ${missing} ON CONFLICT DO NOTHING`,
    // Of each shard up to $3, of which half may be what was delayed or failed before: neither waits for ever for the other.
    readShards: asTexts(`
SELECT ${ROW} FROM ${shards} l CROSS JOIN LATERAL (
  (SELECT o.* FROM ${outbox} o WHERE ${timed("l.shard")} ORDER BY o.due_at LIMIT ($3::integer + 1) / 2)
  UNION ALL
  (SELECT o.* FROM ${outbox} o WHERE ${atOnce("l.shard")} ORDER BY o.shard, o.position LIMIT $3::integer)
  LIMIT $3::integer
) o
WHERE l.token = $1::uuid AND l.shard = ANY ($2::smallint[])
ORDER BY o.position`),
    renew: `UPDATE ${shards} SET ends_at = ${later("$2")} WHERE token = $1::uuid RETURNING shard`,
    // The shards are locked, so that whoever takes them over sees a row that failed before or after, not in between.
    // Attempts are those of the claim, so that a failure whose answer was lost is not counted twice.
    settle: `
WITH "#mine" AS MATERIALIZED (
  SELECT shard FROM ${shards} WHERE token = $1::uuid FOR NO KEY UPDATE
), ${gone}, "#failed" AS (
  UPDATE ${outbox} o SET attempts = o.attempts + 1, error_code = f.code, error = f.message,
    due_at = CASE WHEN f.quarantined THEN NULL ELSE ${later("f.retry_ms")} END,
    quarantined_at = CASE WHEN f.quarantined THEN clock_timestamp() END,
    holds = o.ordered AND f.holds
  FROM "#mine" m, unnest($4::bigint[], $5::float8[], $6::text[], $7::text[], $8::boolean[], $9::boolean[], $10::integer[])
    AS f (position, retry_ms, code, message, quarantined, holds, attempts)
  WHERE o.position = f.position AND o.shard = m.shard AND o.attempts = f.attempts AND o.quarantined_at IS NULL
  RETURNING o.position
), ${freed}
SELECT position::text FROM "#gone"
UNION ALL SELECT position::text FROM "#failed"
UNION ALL SELECT o.position::text FROM ${outbox} o JOIN "#mine" m ON m.shard = o.shard
  WHERE o.position = ANY ($11::bigint[])`,
    // That a row was sent counts whoever holds its shard by now, so no lock is needed.
    settleSent: `
WITH ${gone}, ${freed}
SELECT position::text FROM "#gone"`,
    listQuarantined: asTexts(`
SELECT ${ROW}, o.error_code, o.error, o.holds, ${milliseconds("o.quarantined_at")} AS quarantined_at
FROM ${outbox} o WHERE o.quarantined_at IS NOT NULL AND ${SAFE} AND o.position > $1::bigint ORDER BY o.position LIMIT $2::integer`),
    // What let its key pass goes last, so it is given a new position.
    retryQuarantined: `
WITH "#chosen" AS MATERIALIZED (
  SELECT position, ordered AND NOT holds AS passed FROM ${outbox}
  WHERE position = ANY ($1::bigint[]) AND quarantined_at IS NOT NULL FOR UPDATE
), "#first" AS (
  UPDATE ${outbox} o SET ${ANEW} FROM "#chosen" c WHERE o.position = c.position AND NOT c.passed RETURNING c.position
), "#last" AS (
  UPDATE ${outbox} o SET ${ANEW}, position = DEFAULT FROM "#chosen" c WHERE o.position = c.position AND c.passed
  RETURNING c.position
)
SELECT position::text FROM "#first" UNION ALL SELECT position::text FROM "#last"`,
    discardQuarantined: `
DELETE FROM ${outbox} WHERE position = ANY ($1::bigint[]) AND quarantined_at IS NOT NULL RETURNING position::text`,
    // An array, so that the choice is made once. Rows that another cleaner has are left to it.
    clean: `
WITH "#removed" AS (
  DELETE FROM ${sent} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${sent} WHERE sent_at < ${later("-1 * $2")} ORDER BY sent_at LIMIT $1::integer FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM "#removed"`,
  };
}

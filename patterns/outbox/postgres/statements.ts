import { LONGEST_MS } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/errors.ts";
import { asTexts } from "../../../sql/postgres.ts";
import { type OutboxRow, outboxRowOf, type QuarantinedRow } from "../store.ts";
import { type OutboxTables, rowShards } from "./schema.ts";

/** Why a row can differ from what was written. */
const CHANGED = "the client or a proxy changes the server's answers";

/** A row as the statements return it, in JSON. */
export interface StoredRow {
  readonly position: number;
  readonly shard: number;
  readonly id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  /** Hexadecimal digits. */
  readonly body: string;
  /** The length of the body, as the server counts it. */
  readonly bytes: number;
  readonly content_type: string;
  readonly priority: number;
  readonly ordered: boolean;
  readonly discard_unroutable: boolean;
  readonly attempts: number;
  readonly expires_at: number | null;
  readonly created_at: number;
}

/** A quarantined row as the statements return it. */
interface StoredQuarantinedRow extends StoredRow {
  readonly error_code: string | null;
  readonly error: string | null;
  readonly holds: boolean;
  readonly quarantined_at: number;
}

/** Refuses a row that could not be settled later. Throws `invalid`. */
export function settleable(row: StoredRow): StoredRow {
  const { position, shard, attempts } = row;
  if ([position, shard, attempts].every(Number.isSafeInteger)) return row;
  throw new MessagingError("invalid", `a row of the outbox does not come back as it was written: ${CHANGED}`);
}

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

/** Undefined for a changed body: `Buffer.from` stops at the first character that is no hexadecimal digit. */
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

export type Statements = ReturnType<typeof statements>;

/** An expression for the time `ms` milliseconds from the start of the statement. */
const later = (ms: string): string => `statement_timestamp() + ${ms}::float8 * interval '1 millisecond'`;
const milliseconds = (time: string): string => `(extract(epoch FROM ${time}) * 1000)::float8`;

/** The columns of an {@link OutboxRow}, from a row called `o`. */
const ROW = `o.position::float8 AS position, o.shard, o.id, o.kind, o.destination, o.key, o.routing_key,
  o.headers, encode(o.body, 'hex') AS body, octet_length(o.body) AS bytes, o.content_type, o.priority, o.ordered, o.discard_unroutable, o.attempts,
  round(${milliseconds("o.expires_at")}) AS expires_at, ${milliseconds("o.created_at")} AS created_at`;

/** JavaScript cannot tell larger positions apart, and could not settle their rows. */
const SAFE = `o.position BETWEEN -${Number.MAX_SAFE_INTEGER} AND ${Number.MAX_SAFE_INTEGER}`;

/** Resets a row to its state at the insert. */
const ANEW = "quarantined_at = NULL, holds = false, attempts = 0, due_at = NULL, error_code = NULL, error = NULL";

const MOVED = `position, shard, id, kind, destination, key, routing_key, headers, body, content_type, priority, due_at,
  expires_at, ordered, discard_unroutable, attempts, error_code, error, created_at`;

/**
 * The statements of the store; `keep` says whether sent rows are kept. Each is correct at READ COMMITTED, Postgres' default,
 * with any concurrency. Names inside a statement begin with #, which no table's name has, so that they hide no table.
 */
export function statements({ outbox, shards, sent }: OutboxTables, keep: boolean) {
  // A failed row blocks the later rows of its key.
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
    // Takes free shards that have claimable rows, those with the oldest first. Another statement reads the rows, because this
    // snapshot may be older than the end of the previous claim. OFFSET 0 stops the planner from searching the oldest twice.
    // A lease that ends too late is no lease.
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
    // Shards that should exist, and are missing.
    missingShards: `SELECT shard::text AS shard FROM (${missing}) missing`,
    makeShards: `INSERT INTO ${shards} (shard) ${missing} ON CONFLICT DO NOTHING`,
    // Up to $3 rows per shard, of which up to half were delayed or failed before: neither kind starves the other.
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
    // The lock on the shards makes the settlement atomic for a relay that takes them over. The comparison of attempts keeps
    // a repeated call, whose answer was lost, from counting a failure twice.
    settle: `
WITH "#mine" AS MATERIALIZED (
  SELECT shard FROM ${shards} WHERE token = $1::uuid FOR NO KEY UPDATE
), ${gone}, "#failed" AS (
  UPDATE ${outbox} o SET attempts = least(o.attempts, 2147483646) + 1, error_code = f.code, error = f.message,
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
    // The usual case, and less than half as expensive to plan. It needs no lock: sent rows are removed even if another relay
    // holds the shard by now.
    settleSent: `
WITH ${gone}, ${freed}
SELECT position::text FROM "#gone"`,
    listQuarantined: asTexts(`
SELECT ${ROW}, o.error_code, o.error, o.holds, ${milliseconds("o.quarantined_at")} AS quarantined_at
FROM ${outbox} o WHERE o.quarantined_at IS NOT NULL AND ${SAFE} AND o.position > $1::bigint ORDER BY o.position LIMIT $2::integer`),
    // A row that let its key pass goes last, under a new position.
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
    // The array makes Postgres choose the rows once. Rows that another cleaner locked are skipped.
    clean: `
WITH "#removed" AS (
  DELETE FROM ${sent} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${sent} WHERE sent_at < ${later("-1 * $2")} ORDER BY sent_at LIMIT $1::integer FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM "#removed"`,
  };
}

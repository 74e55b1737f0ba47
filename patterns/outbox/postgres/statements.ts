import { LONGEST_MS } from "../../../core/checks.ts";
import { asTexts } from "../../../sql/postgres.ts";
import { rowLanes } from "./lanes.ts";
import type { Tables } from "./tables.ts";

/**
 * The statements of the store. Each is right at READ COMMITTED, Postgres' default, however many run at once. What is named
 * within one begins with #, which no table's name has: it would hide a table that is called alike.
 */
export interface Statements {
  readonly takeLanes: string;
  /** The lanes that are to be there, and are not. */
  readonly missingLanes: string;
  readonly makeLanes: string;
  readonly readLanes: string;
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
const ROW = `o.position::float8 AS position, o.lane, o.id, o.kind, o.destination, o.key, o.routing_key,
  o.headers, encode(o.body, 'hex') AS body, octet_length(o.body) AS bytes, o.content_type, o.priority, o.ordered, o.discard_unroutable, o.attempts,
  round(${milliseconds("o.expires_at")}) AS expires_at, ${milliseconds("o.created_at")} AS created_at`;

/** What JavaScript can tell from other positions. Nobody could say what became of a row beyond. */
const SAFE = `o.position BETWEEN -${Number.MAX_SAFE_INTEGER} AND ${Number.MAX_SAFE_INTEGER}`;

/** A row as it was when it was written. */
const ANEW = "quarantined_at = NULL, holds = false, attempts = 0, due_at = NULL, error_code = NULL, error = NULL";

const MOVED = `position, lane, id, kind, destination, key, routing_key, headers, body, content_type, priority, due_at,
  expires_at, ordered, discard_unroutable, attempts, error_code, error, created_at`;

/** The statements for tables, and whether what is sent is kept. */
export function statements({ outbox, lanes, sent }: Tables, keep: boolean): Statements {
  // Behind a row of its key that failed nothing goes that is later.
  const free = `NOT (o.ordered AND EXISTS (SELECT FROM ${outbox} h
    WHERE h.holds AND h.destination = o.destination AND h.key = o.key AND h.kind = o.kind AND h.position < o.position))`;
  const atOnce = (lane: string): string =>
    `o.lane = ${lane} AND o.due_at IS NULL AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const gone = `"#gone" AS (
  DELETE FROM ${outbox} WHERE position = ANY ($2::bigint[]) RETURNING ${keep ? MOVED : "position"}
)${keep ? `, "#kept" AS (INSERT INTO ${sent} (${MOVED}) SELECT ${MOVED} FROM "#gone")` : ""}`;
  const freed = `"#freed" AS (
  UPDATE ${lanes} SET token = NULL, relay = NULL, ends_at = '-infinity'
  WHERE token = $1::uuid AND lane = ANY ($3::smallint[])
)`;
  const timed = (lane: string): string =>
    `o.lane = ${lane} AND o.due_at <= statement_timestamp() AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const missing = `SELECT s.lane FROM ${rowLanes(outbox)} s WHERE NOT EXISTS (SELECT FROM ${lanes} l WHERE l.lane = s.lane)`;
  return {
    // Lanes that have something to claim and that nobody holds, those with the oldest first. The rows are read by a
    // statement of its own: this one's snapshot may be older than the end of the claim before. OFFSET 0 keeps the planner
    // from looking for the oldest twice. A lease that ends later than any can is none.
    takeLanes: `
WITH "#free" AS (
  SELECT l.lane FROM ${lanes} l CROSS JOIN LATERAL (SELECT least(
    (SELECT o.position FROM ${outbox} o WHERE ${timed("l.lane")} ORDER BY o.due_at LIMIT 1),
    (SELECT o.position FROM ${outbox} o WHERE ${atOnce("l.lane")} ORDER BY o.lane, o.position LIMIT 1)
  ) AS first OFFSET 0) oldest
  WHERE (l.ends_at <= statement_timestamp() OR l.ends_at > ${later(String(LONGEST_MS))}) AND oldest.first IS NOT NULL
  ORDER BY oldest.first LIMIT $4::integer FOR NO KEY UPDATE OF l SKIP LOCKED
)
UPDATE ${lanes} l SET token = $1::uuid, relay = $2::text, ends_at = ${later("$3")}
FROM "#free" f WHERE l.lane = f.lane
RETURNING l.lane::text AS lane`,
    missingLanes: `SELECT lane::text AS lane FROM (${missing}) missing`,
    makeLanes: `INSERT INTO ${lanes} (lane) ${missing} ON CONFLICT DO NOTHING`,
    // Of each lane up to $3, of which half may be what was delayed or failed before: neither waits for ever for the other.
    readLanes: asTexts(`
SELECT ${ROW} FROM ${lanes} l CROSS JOIN LATERAL (
  (SELECT o.* FROM ${outbox} o WHERE ${timed("l.lane")} ORDER BY o.due_at LIMIT ($3::integer + 1) / 2)
  UNION ALL
  (SELECT o.* FROM ${outbox} o WHERE ${atOnce("l.lane")} ORDER BY o.lane, o.position LIMIT $3::integer)
  LIMIT $3::integer
) o
WHERE l.token = $1::uuid AND l.lane = ANY ($2::smallint[])
ORDER BY o.position`),
    renew: `UPDATE ${lanes} SET ends_at = ${later("$2")} WHERE token = $1::uuid RETURNING lane`,
    // The lanes are locked, so that whoever takes them over sees a row that failed before or after, not in between.
    // Attempts are those of the claim, so that a failure whose answer was lost is not counted twice.
    settle: `
WITH "#mine" AS MATERIALIZED (
  SELECT lane FROM ${lanes} WHERE token = $1::uuid FOR NO KEY UPDATE
), ${gone}, "#failed" AS (
  UPDATE ${outbox} o SET attempts = o.attempts + 1, error_code = f.code, error = f.message,
    due_at = CASE WHEN f.quarantined THEN NULL ELSE ${later("f.retry_ms")} END,
    quarantined_at = CASE WHEN f.quarantined THEN clock_timestamp() END,
    holds = o.ordered AND f.holds
  FROM "#mine" m, unnest($4::bigint[], $5::float8[], $6::text[], $7::text[], $8::boolean[], $9::boolean[], $10::integer[])
    AS f (position, retry_ms, code, message, quarantined, holds, attempts)
  WHERE o.position = f.position AND o.lane = m.lane AND o.attempts = f.attempts AND o.quarantined_at IS NULL
  RETURNING o.position
), ${freed}
SELECT position::text FROM "#gone"
UNION ALL SELECT position::text FROM "#failed"
UNION ALL SELECT o.position::text FROM ${outbox} o JOIN "#mine" m ON m.lane = o.lane
  WHERE o.position = ANY ($11::bigint[])`,
    // That a row was sent counts whoever holds its lane by now, so no lock is needed.
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

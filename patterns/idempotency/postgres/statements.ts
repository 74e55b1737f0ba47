/** The statements of the store. Each is right at READ COMMITTED, Postgres' default, however many run at once. */
export interface Statements {
  readonly claim: string;
  readonly renew: string;
  readonly complete: string;
  readonly release: string;
  readonly clean: string;
}

/** A later time, so many milliseconds from now. The time of day goes on within a statement that waits for a lock. */
const later = (value: string): string => `clock_timestamp() + ${value}::float8 * interval '1 millisecond'`;

/** The statements for a table, given its quoted name. */
export function statements(name: string): Statements {
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

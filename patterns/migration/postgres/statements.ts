import { asTexts } from "../../../sql/postgres.ts";
import { CLASS, MARK, PUBLISHED_AND_HANDLED } from "../marks.ts";
import type { JournalClass } from "../store.ts";
import type { Tables } from "./tables.ts";

const later = (ms: string): string => `clock_timestamp() + ${ms}::float8 * interval '1 millisecond'`;
const epochMs = (at: string): string => `(extract(epoch FROM ${at}) * 1000)::float8`;

/** Of the column `marks`. */
function inClass(which: JournalClass): string {
  const { mask, value } = CLASS[which];
  return `marks & ${mask} = ${value}`;
}

/** The statements of the store. */
export interface Statements {
  readonly beat: string;
  readonly read: string;
  readonly leave: string;
  readonly clearInstances: string;
  readonly begin: string;
  readonly change: string;
  readonly seal: string;
  readonly seals: string;
  readonly clearSeals: string;
  readonly mark: string;
  readonly counts: string;
  readonly list: Readonly<Record<JournalClass, string>>;
  readonly fold: string;
  readonly forget: string;
}

export function statements({ states, instances, seals, journal, folded }: Tables): Statements {
  const list = (which: JournalClass): string =>
    `SELECT id FROM ${journal} WHERE migration = $1 AND source = $2 AND ($3::text IS NULL OR id > $3) AND ${inClass(which)} ORDER BY id LIMIT $4`;
  return {
    beat: `INSERT INTO ${instances} AS known (migration, instance, acting, report, ends_at) VALUES ($1, $2, $3, $4, ${later("$5")})
ON CONFLICT (migration, instance) DO UPDATE SET acting = excluded.acting, report = excluded.report, ends_at = excluded.ends_at`,
    // State and instances by one snapshot, and by one that is newer than a beat before.
    read: asTexts(`SELECT state.revision::float8 AS revision, state.document, ${epochMs("clock_timestamp()")} AS now, coalesce((
  SELECT json_agg(json_build_object('instance', instance, 'acting', acting, 'report', report,
    'remainingMs', ${epochMs("ends_at - clock_timestamp()")}) ORDER BY instance)
  FROM ${instances} WHERE migration = $1 AND ends_at > clock_timestamp()
), '[]'::json) AS instances
FROM (SELECT 1) AS one LEFT JOIN ${states} AS state ON state.migration = $1`),
    leave: `DELETE FROM ${instances} WHERE migration = $1 AND instance = $2`,
    clearInstances: `DELETE FROM ${instances} WHERE migration = $1 AND ends_at < clock_timestamp() - interval '1 hour'`,
    begin: `INSERT INTO ${states} (migration, revision, document) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING RETURNING 1`,
    change: `UPDATE ${states} SET revision = revision + 1, document = $3 WHERE migration = $1 AND revision = $2 RETURNING 1`,
    // In order, so that two batches never wait for each other.
    seal: `INSERT INTO ${seals} AS known (migration, scope, epoch)
SELECT $1, scope, max(epoch) FROM unnest($2::text[], $3::integer[]) AS given (scope, epoch) GROUP BY scope ORDER BY scope
ON CONFLICT (migration, scope) DO UPDATE SET epoch = excluded.epoch WHERE known.epoch < excluded.epoch`,
    seals: asTexts(`SELECT scope, epoch FROM ${seals} WHERE migration = $1 AND scope = ANY ($2::text[])`),
    clearSeals: `DELETE FROM ${seals} WHERE migration = $1`,
    mark: `INSERT INTO ${journal} AS known (migration, source, id, marks, marked_at)
SELECT $1, source, id, bit_or(mark), clock_timestamp()
FROM unnest($2::text[], $3::text[], $4::smallint[]) AS given (source, id, mark) GROUP BY source, id ORDER BY source, id
ON CONFLICT (migration, source, id) DO UPDATE SET marks = known.marks | excluded.marks, marked_at = excluded.marked_at
WHERE known.marks | excluded.marks <> known.marks`,
    counts: asTexts(`
WITH marked AS (
  SELECT source,
    count(*) FILTER (WHERE marks & ${MARK.published} <> 0) AS published,
    count(*) FILTER (WHERE marks & ${MARK.handled} <> 0) AS handled,
    count(*) FILTER (WHERE ${inClass("missing")}) AS missing,
    count(*) FILTER (WHERE ${inClass("dead")}) AS dead,
    count(*) FILTER (WHERE ${inClass("unexpected")}) AS unexpected
  FROM ${journal} WHERE migration = $1 GROUP BY source
), gone AS (SELECT source, messages FROM ${folded} WHERE migration = $1)
SELECT source, (coalesce(published, 0) + coalesce(messages, 0))::float8 AS published,
  (coalesce(handled, 0) + coalesce(messages, 0))::float8 AS handled, coalesce(missing, 0)::float8 AS missing,
  coalesce(dead, 0)::float8 AS dead, coalesce(unexpected, 0)::float8 AS unexpected
FROM marked FULL JOIN gone USING (source) ORDER BY source`),
    list: { missing: list("missing"), dead: list("dead"), unexpected: list("unexpected") },
    fold: `
WITH gone AS (
  DELETE FROM ${journal} WHERE migration = $1 AND (source, id) IN (
    SELECT source, id FROM ${journal} WHERE migration = $1 AND marks & ${PUBLISHED_AND_HANDLED} = ${PUBLISHED_AND_HANDLED}
      AND marked_at < clock_timestamp() - $2::float8 * interval '1 millisecond' LIMIT $3
  ) RETURNING source
), counted AS (
  INSERT INTO ${folded} AS known (migration, source, messages)
  SELECT $1, source, count(*) FROM gone GROUP BY source ORDER BY source
  ON CONFLICT (migration, source) DO UPDATE SET messages = known.messages + excluded.messages
)
SELECT count(*)::text AS folded FROM gone`,
    forget: `
WITH a AS (DELETE FROM ${instances} WHERE migration = $1), b AS (DELETE FROM ${seals} WHERE migration = $1),
  c AS (DELETE FROM ${journal} WHERE migration = $1), d AS (DELETE FROM ${folded} WHERE migration = $1)
DELETE FROM ${states} WHERE migration = $1`,
  };
}

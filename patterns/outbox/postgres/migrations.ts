import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { LANES } from "./lanes.ts";
import { type PostgresOutboxTableOptions, type Tables, tablesOf } from "./tables.ts";
import { Versions } from "./versions.ts";

/** The options of {@link postgresOutboxSql}. */
export interface PostgresOutboxSqlOptions extends PostgresOutboxTableOptions {
  /** The version that the tables have already; 0, the default, is none. */
  readonly from?: number;
}

/**
 * The statements that make the tables, for a team's own migration tool: each to run once, in order, by a role that may
 * create in the schema. The store's `migrate` runs the same, and knows of both which versions were reached. A version that
 * was released is never changed; a new one comes with an entry in the change log. Throws `invalid` for wrong options.
 */
export function postgresOutboxSql(options: PostgresOutboxSqlOptions = {}): readonly string[] {
  checkOptions("postgresOutboxSql", options, ["table", "schema", "from"]);
  const { from = 0 } = options;
  const versions = outboxVersions(tablesOf("postgresOutboxSql", options));
  checkInteger("postgresOutboxSql { from }", from, 0, versions.last);
  return versions.from(from);
}

/** What a row is in both tables. */
const COLUMNS = `
  lane smallint NOT NULL,
  id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('queue', 'topic')),
  destination text NOT NULL,
  key text COLLATE "C",
  routing_key text,
  headers json,
  body bytea NOT NULL,
  content_type text NOT NULL,
  priority smallint NOT NULL,
  due_at timestamptz,
  expires_at timestamptz,
  ordered boolean NOT NULL,
  discard_unroutable boolean NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  error_code text,
  error text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()`;

// Only what is not sent is in the table that claims read; its indexes are partial, so that a row is in those that may find
// it. `due_at` is null for what is due at once. `holds` is set on ordered rows that failed: nothing later of their key goes.
function first({ outbox, lanes, sent }: Tables): readonly string[] {
  return [
    `CREATE TABLE ${outbox} (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,${COLUMNS},
  holds boolean NOT NULL DEFAULT false,
  quarantined_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)`,
    `CREATE INDEX ON ${outbox} (lane, position) WHERE due_at IS NULL AND quarantined_at IS NULL`,
    `CREATE INDEX ON ${outbox} (lane, due_at) WHERE due_at IS NOT NULL AND quarantined_at IS NULL`,
    `CREATE INDEX ON ${outbox} (destination, key, position) WHERE holds`,
    `CREATE INDEX ON ${outbox} (position) WHERE quarantined_at IS NOT NULL`,
    `CREATE TABLE ${lanes} (
  lane smallint PRIMARY KEY,
  token uuid,
  relay text,
  ends_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`,
    `INSERT INTO ${lanes} (lane) SELECT generate_series(0, ${LANES - 1})`,
    `CREATE TABLE ${sent} (
  position bigint NOT NULL,${COLUMNS},
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`,
    `CREATE INDEX ON ${sent} (sent_at)`,
  ];
}

/**
 * Somebody may have emptied the tables. Who may not read the lanes, as a role that only writes, leaves them alone: there is
 * nothing to do for it.
 */
function filledLanes({ lanes }: Tables): string {
  const all = `generate_series(0, ${LANES - 1}) AS s (lane)`;
  return `
  IF has_table_privilege('${lanes}', 'SELECT') THEN
    IF EXISTS (SELECT FROM ${all} WHERE NOT EXISTS (SELECT FROM ${lanes} l WHERE l.lane = s.lane)) THEN
      INSERT INTO ${lanes} (lane) SELECT s.lane FROM ${all} ON CONFLICT DO NOTHING;
    END IF;
  END IF;`;
}

/** The tables over their versions. */
export function outboxVersions(tables: Tables): Versions {
  return new Versions(tables.versions, [first(tables)], filledLanes(tables));
}

import { checkOptions } from "../../../core/names.ts";
import { LANES } from "./lanes.ts";
import { type PostgresOutboxTableOptions, type Tables, tablesOf } from "./tables.ts";

/** One step from one version of the tables to the next. */
export interface PostgresOutboxMigration {
  /** From 1 up, without a gap. */
  readonly version: number;
  /** To run once, in order, in one transaction; the last one writes down that the version is reached. */
  readonly statements: readonly string[];
}

/**
 * The statements that make the tables, version by version, for a team's own migration tool, by a role that may create in
 * the schema. The store's `migrate` runs the same, and leaves out the versions that were reached by either. A version that
 * was released is never changed. Throws `invalid` for wrong options.
 */
export function postgresOutboxMigrations(options: PostgresOutboxTableOptions = {}): readonly PostgresOutboxMigration[] {
  checkOptions("postgresOutboxMigrations", options, ["table", "schema"]);
  return migrations(tablesOf("postgresOutboxMigrations", options));
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

function migrations(tables: Tables): readonly PostgresOutboxMigration[] {
  return [first(tables)].map((statements, index) => ({
    version: index + 1,
    statements: [...statements, `INSERT INTO ${tables.versions} (version) VALUES (${index + 1})`],
  }));
}

// Only what is not sent is in the table that claims read; its indexes are partial, so that a row is in those that may find
// it. `due_at` is null for what is due at once. `holds` is set on ordered rows that failed: nothing later of their key goes.
function first({ outbox, lanes, sent, versions }: Tables): readonly string[] {
  return [
    `CREATE TABLE ${versions} (
  version integer PRIMARY KEY,
  reached_at timestamptz NOT NULL DEFAULT now()
)`,
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
  ends_at timestamptz NOT NULL DEFAULT '-infinity',
  served_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`,
    `INSERT INTO ${lanes} (lane) SELECT generate_series(0, ${LANES - 1})`,
    `CREATE TABLE ${sent} (
  position bigint NOT NULL,${COLUMNS},
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`,
    `CREATE INDEX ON ${sent} (sent_at)`,
  ];
}

/** One statement that brings the tables to the last version, whichever they have; of several at once the later ones find it. */
export function migration(tables: Tables): string {
  const steps = migrations(tables).map(
    ({ version, statements }) => `
  IF reached < ${version} THEN
    ${statements.join(";\n    ")};
  END IF;`,
  );
  return `
DO $migration$
DECLARE reached integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_outbox', 0));
  IF to_regclass('${tables.versions}') IS NOT NULL THEN
    SELECT coalesce(max(version), 0) INTO reached FROM ${tables.versions};
  END IF;${steps.join("")}
END $migration$`;
}

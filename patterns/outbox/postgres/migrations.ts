import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { SHARDS } from "./shards.ts";
import { type PostgresOutboxTableOptions, type Tables, tablesOf } from "./statements.ts";

/** The state of what a migration finds there already, with no version noted: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const DUPLICATE_TABLE = "42P07";

/** What a migration raises if the tables are of a version that it does not know. */
export const NEWER = "AB001";

/** The tables of an outbox or inbox over its versions. A version that was released never changes. */
export class Versions {
  readonly #table: string;
  readonly #steps: readonly (readonly string[])[];
  readonly #always: string;

  /**
   * The table that notes the versions, quoted, and the statements of each version; the first is of version 1. `always` are
   * statements of PL/pgSQL that each migration ends with.
   */
  constructor(table: string, steps: readonly (readonly string[])[], always = "") {
    this.#table = table;
    this.#always = always;
    const made = `CREATE TABLE ${table} (
  version integer PRIMARY KEY,
  reached_at timestamptz NOT NULL DEFAULT now()
)`;
    this.#steps = steps.map((statements, index) => [
      ...(index === 0 ? [made] : []),
      ...statements,
      `INSERT INTO ${table} (version) VALUES (${index + 1})`,
    ]);
  }

  /** The number of the last. */
  get last(): number {
    return this.#steps.length;
  }

  /** The statements that lead from a version to the last one. */
  from(version: number): readonly string[] {
    return this.#steps.slice(version).flat();
  }

  /** One statement that leads from whichever version there is to the last one; of several at once the later find it done. */
  migration(): string {
    const steps = this.#steps.map(
      (statements, index) => `
  IF reached < ${index + 1} THEN
    ${statements.join(";\n    ")};
  END IF;`,
    );
    return `
DO $migration$
DECLARE reached integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_outbox', 0));
  IF to_regclass('${this.#table}') IS NOT NULL THEN
    SELECT coalesce(max(version), 0) INTO reached FROM ${this.#table};
  END IF;
  IF reached > ${this.last} THEN
    RAISE EXCEPTION 'of version %', reached USING ERRCODE = '${NEWER}';
  END IF;${steps.join("")}${this.#always}
END $migration$`;
  }
}

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
  shard smallint NOT NULL,
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
function first({ outbox, shards, sent }: Tables): readonly string[] {
  return [
    `CREATE TABLE ${outbox} (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,${COLUMNS},
  holds boolean NOT NULL DEFAULT false,
  quarantined_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)`,
    `CREATE INDEX ON ${outbox} (shard, position) WHERE due_at IS NULL AND quarantined_at IS NULL`,
    `CREATE INDEX ON ${outbox} (shard, due_at) WHERE due_at IS NOT NULL AND quarantined_at IS NULL`,
    `CREATE INDEX ON ${outbox} (destination, key, position) WHERE holds`,
    `CREATE INDEX ON ${outbox} (position) WHERE quarantined_at IS NOT NULL`,
    `CREATE TABLE ${shards} (
  shard smallint PRIMARY KEY,
  token uuid,
  relay text,
  ends_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`,
    `INSERT INTO ${shards} (shard) SELECT generate_series(0, ${SHARDS - 1})`,
    `CREATE TABLE ${sent} (
  position bigint NOT NULL,${COLUMNS},
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`,
    `CREATE INDEX ON ${sent} (sent_at)`,
  ];
}

/**
 * Somebody may have emptied the tables. Who may not read the shards, as a role that only writes, leaves them alone: there is
 * nothing to do for it.
 */
function filledShards({ shards }: Tables): string {
  const all = `generate_series(0, ${SHARDS - 1}) AS s (shard)`;
  return `
  IF has_table_privilege('${shards}', 'SELECT') THEN
    IF EXISTS (SELECT FROM ${all} WHERE NOT EXISTS (SELECT FROM ${shards} l WHERE l.shard = s.shard)) THEN
      INSERT INTO ${shards} (shard) SELECT s.shard FROM ${all} ON CONFLICT DO NOTHING;
    END IF;
  END IF;`;
}

/** The tables over their versions. */
export function outboxVersions(tables: Tables): Versions {
  return new Versions(tables.versions, [first(tables)], filledShards(tables));
}

import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { checkOptions } from "../../../core/checks.ts";
import { PostgresSchema, quotedNames } from "../../../sql/schema.ts";
import type { NewOutboxRow } from "../store.ts";

/**
 * The number of shards that keys are divided into. A claim locks shards, so keys of one shard wait for each other while it is
 * in flight. The tables contain this number: a change takes a migration.
 */
export const SHARDS = 64;

/** Where the rows are stored. */
export interface PostgresOutboxTableOptions {
  /**
   * The name of the table of unsent rows, with which the names of the others begin: letters, digits and `_`, no digit first,
   * 50 at most. Default `anybroker_outbox`.
   */
  readonly table?: string;
  /** The schema's name, of the same form, 63 at most. Default: by the connection's `search_path`. */
  readonly schema?: string;
}

/** The options of {@link postgresOutboxSql}. */
export interface PostgresOutboxSqlOptions extends PostgresOutboxTableOptions {
  /** The version that the tables have now. Default 0, for no tables. */
  readonly from?: number;
}

/**
 * The statements that create the tables, for your own migration tool. Run each once, in order, with a role that may create in
 * the schema. The store's `migrate` runs the same, and both note the versions. A released version never changes; the change
 * log announces new ones. Throws `invalid` for wrong options.
 */
export function postgresOutboxSql(options: PostgresOutboxSqlOptions = {}): readonly string[] {
  checkOptions("postgresOutboxSql", options, ["table", "schema", "from"]);
  return outboxSchema(outboxTables("postgresOutboxSql", options)).from("postgresOutboxSql", options.from);
}

/** The quoted names of the tables, and the name of the channel for notifications. */
export interface OutboxTables {
  /** Unsent rows. */
  readonly outbox: string;
  /** One row per shard: the lock of its keys. */
  readonly shards: string;
  /** Sent rows that are kept. */
  readonly sent: string;
  readonly versions: string;
  readonly channel: string;
}

/** Checks and quotes the names. Throws `invalid`. */
export function outboxTables(
  where: string,
  { schema, table = "anybroker_outbox" }: PostgresOutboxTableOptions,
): OutboxTables {
  const named = quotedNames(where, schema, table);
  return {
    outbox: named(""),
    shards: named("_shards"),
    sent: named("_sent"),
    versions: named("_versions"),
    channel: `anybroker_${createHash("sha256").update(named("")).digest("hex").slice(0, 32)}`,
  };
}

export function outboxSchema(tables: OutboxTables): PostgresSchema {
  return new PostgresSchema(tables.versions, [version1(tables)], fillShards(tables));
}

/** The shard of a message: constant for one key of one destination, and any without a key. */
export function shardOf({ to, key, id }: NewOutboxRow): number {
  return crc32(key === undefined ? id : `${to.kind} ${to.name} ${key}`) % SHARDS;
}

/** A subselect of the shards that have to exist: the store's own, and those of rows that others wrote. It reads index ends. */
export function rowShards(outbox: string): string {
  const foreign = ["o.shard < 0", `o.shard >= ${SHARDS}`].flatMap((range) =>
    ["IS NULL", "IS NOT NULL"].map(
      (due) => `
  UNION SELECT o.shard FROM ${outbox} o WHERE ${range} AND o.due_at ${due} AND o.quarantined_at IS NULL`,
    ),
  );
  return `(SELECT generate_series(0, ${SHARDS - 1})::smallint AS shard${foreign.join("")})`;
}

/** The columns of both tables of rows. */
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

// The table that claims read has unsent rows only, and each partial index only the rows that it has to find. `due_at` is null
// for rows due at once. `holds` marks an ordered row that failed and blocks the later rows of its key.
function version1({ outbox, shards, sent }: OutboxTables): readonly string[] {
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

/** Restores deleted shards. A role that only writes may not read the shards, and does nothing here. */
function fillShards({ shards }: OutboxTables): string {
  const all = `generate_series(0, ${SHARDS - 1}) AS s (shard)`;
  return `
  IF has_table_privilege('${shards}', 'SELECT') THEN
    IF EXISTS (SELECT FROM ${all} WHERE NOT EXISTS (SELECT FROM ${shards} l WHERE l.shard = s.shard)) THEN
      INSERT INTO ${shards} (shard) SELECT s.shard FROM ${all} ON CONFLICT DO NOTHING;
    END IF;
  END IF;`;
}

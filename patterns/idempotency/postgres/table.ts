import { checkOptions } from "../../../core/checks.ts";
import { quotedNames, unlessThere } from "../../../sql/tables.ts";

/** Where the records are. */
export interface PostgresIdempotencyTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form, 63 at most. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

/**
 * The statements that make the table, for a team's own migration tool: each is to run once, by a role that may create in
 * the schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresIdempotencySql(options: PostgresIdempotencyTableOptions = {}): readonly string[] {
  checkOptions("postgresIdempotencySql", options, ["table", "schema"]);
  return tableSql(tableName("postgresIdempotencySql", options));
}

/** The quoted name of the table. Throws `invalid`. */
export function tableName(
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

/** One statement that makes the table unless it is there; of several at once the later ones find it. */
export function migration(name: string): string {
  return unlessThere("anybroker_idempotency", name, tableSql(name));
}

import { MessagingError } from "../../../core/index.ts";
import { checkOptions } from "../../../core/names.ts";

/** Where the records are. */
export interface PostgresIdempotencyTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 63 at most. Default `anybroker_idempotency`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;

/**
 * The statements that make the table, for a team's own migration tool: each is to run once, by a role that may create in
 * the schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresIdempotencySql(options: PostgresIdempotencyTableOptions = {}): readonly string[] {
  checkOptions("postgresIdempotencySql", options, ["table", "schema"]);
  return tableSql(tableName("postgresIdempotencySql", options));
}

/** The quoted name of the table. */
export function tableName(where: string, options: PostgresIdempotencyTableOptions): string {
  const { schema, table = "anybroker_idempotency" } = options;
  const parts = Object.entries({ schema, table }).flatMap(([option, name]) => {
    if (option === "schema" && name === undefined) return [];
    if (typeof name === "string" && NAME.test(name)) return [`"${name}"`];
    throw new MessagingError(
      "invalid",
      `${where} { ${option} } takes letters, digits and _, no digit first, 63 at most`,
    );
  });
  return parts.join(".");
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
  return `
DO $migration$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_idempotency', 0));
  IF to_regclass('${name}') IS NULL THEN
    ${tableSql(name).join(";\n")};
  END IF;
END $migration$`;
}

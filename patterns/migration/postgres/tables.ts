import { checkOptions } from "../../../core/checks.ts";
import { quotedNames, unlessThere } from "../../../sql/tables.ts";

/** Where the state is. */
export interface PostgresMigrationTableOptions {
  /** What the tables' names begin with: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_migration`. */
  readonly table?: string;
  /** The name of the schema they are in, of the same form, 63 at most. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

/** The quoted names. */
export interface Tables {
  readonly states: string;
  readonly instances: string;
  readonly seals: string;
  readonly journal: string;
  readonly folded: string;
}

/** Checks the names and quotes them. Throws `invalid`. */
export function tablesOf(
  where: string,
  { schema, table = "anybroker_migration" }: PostgresMigrationTableOptions,
): Tables {
  const quoted = quotedNames(where, schema, table);
  return {
    states: quoted(""),
    instances: quoted("_instances"),
    seals: quoted("_seals"),
    journal: quoted("_journal"),
    folded: quoted("_folded"),
  };
}

/**
 * The statements that make the tables, for a team's own migration tool: each is to run once, by a role that may create in
 * the schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresMigrationSql(options: PostgresMigrationTableOptions = {}): readonly string[] {
  checkOptions("postgresMigrationSql", options, ["table", "schema"]);
  return tableSql(tablesOf("postgresMigrationSql", options));
}

function tableSql({ states, instances, seals, journal, folded }: Tables): readonly string[] {
  return [
    `CREATE TABLE ${states} (
  migration text COLLATE "C" PRIMARY KEY,
  revision bigint NOT NULL,
  document text NOT NULL
)`,
    `CREATE TABLE ${instances} (
  migration text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  acting bigint NOT NULL,
  report text NOT NULL,
  ends_at timestamptz NOT NULL,
  PRIMARY KEY (migration, instance)
)`,
    `CREATE TABLE ${seals} (
  migration text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  epoch integer NOT NULL,
  PRIMARY KEY (migration, scope)
)`,
    `CREATE TABLE ${journal} (
  migration text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  marks smallint NOT NULL,
  marked_at timestamptz NOT NULL,
  PRIMARY KEY (migration, source, id)
)`,
    `CREATE TABLE ${folded} (
  migration text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  messages bigint NOT NULL,
  PRIMARY KEY (migration, source)
)`,
  ];
}

/** One statement that makes the tables unless they are there; of several at once the later ones find them. */
export function migrationOf(tables: Tables): string {
  return unlessThere("anybroker_migration", tables.folded, tableSql(tables));
}

import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { quotedNames } from "../../../sql/tables.ts";
import { Versions } from "./versions.ts";

/** Where the rows of handled messages are. */
export interface PostgresInboxTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form, 63 at most. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

/** The quoted names of the tables. */
export interface InboxTables {
  readonly inbox: string;
  /** The versions that were migrated to. */
  readonly versions: string;
}

/** The options of {@link postgresInboxSql}. */
export interface PostgresInboxSqlOptions extends PostgresInboxTableOptions {
  /** The version that the table has already; 0, the default, is none. */
  readonly from?: number;
}

/**
 * The statements that make the table, for a team's own migration tool: each to run once, in order, by a role that may
 * create in the schema. The inbox's `migrate` runs the same, and knows of both which versions were reached. A version that
 * was released is never changed; a new one comes with an entry in the change log. Throws `invalid` for wrong options.
 */
export function postgresInboxSql(options: PostgresInboxSqlOptions = {}): readonly string[] {
  checkOptions("postgresInboxSql", options, ["table", "schema", "from"]);
  const { from = 0 } = options;
  const versions = inboxVersions(inboxTables("postgresInboxSql", options));
  checkInteger("postgresInboxSql { from }", from, 0, versions.last);
  return versions.from(from);
}

/** Checks the names and quotes them. Throws `invalid`. */
export function inboxTables(
  where: string,
  { schema, table = "anybroker_inbox" }: PostgresInboxTableOptions,
): InboxTables {
  const named = quotedNames(where, schema, table);
  return { inbox: named(""), versions: named("_versions") };
}

/** The table over its versions. */
export function inboxVersions(tables: InboxTables): Versions {
  return new Versions(tables.versions, [first(tables)]);
}

function first({ inbox }: InboxTables): readonly string[] {
  return [
    `CREATE TABLE ${inbox} (
  consumer text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, message_id)
)`,
    `CREATE INDEX ON ${inbox} (consumer, handled_at)`,
  ];
}

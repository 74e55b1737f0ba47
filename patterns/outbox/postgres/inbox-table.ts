import { MessagingError } from "../../../core/index.ts";
import { checkOptions } from "../../../core/names.ts";

/** Where the rows of handled messages are. */
export interface PostgresInboxTableOptions {
  /** The table's name: letters, digits and `_`, no digit first, 63 at most. Default `anybroker_inbox`. */
  readonly table?: string;
  /** The name of the schema it is in, of the same form. Default: whichever the connection's `search_path` leads to. */
  readonly schema?: string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;

/**
 * The statements that make the table, for a team's own migration tool: each is to run once, by a role that may create in
 * the schema. The inbox's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresInboxSql(options: PostgresInboxTableOptions = {}): readonly string[] {
  checkOptions("postgresInboxSql", options, ["table", "schema"]);
  return tableSql(inboxTable("postgresInboxSql", options));
}

/** The quoted name of the table. */
export function inboxTable(where: string, { schema, table = "anybroker_inbox" }: PostgresInboxTableOptions): string {
  const quoted = (option: string, name: unknown): string => {
    if (typeof name === "string" && NAME.test(name)) return `"${name}"`;
    const form = "letters, digits and _, no digit first, 63 at most";
    throw new MessagingError("invalid", `${where} { ${option} } takes ${form}`);
  };
  return schema === undefined ? quoted("table", table) : `${quoted("schema", schema)}.${quoted("table", table)}`;
}

function tableSql(name: string): readonly string[] {
  return [
    `CREATE TABLE ${name} (
  consumer text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, message_id)
)`,
    `CREATE INDEX ON ${name} (consumer, handled_at)`,
  ];
}

/** One statement that makes the table unless it is there; of several at once the later ones find it. */
export function inboxMigration(name: string): string {
  return `
DO $migration$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_inbox', 0));
  IF to_regclass('${name}') IS NULL THEN
    ${tableSql(name).join(";\n")};
  END IF;
END $migration$`;
}

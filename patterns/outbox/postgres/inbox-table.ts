import { MessagingError } from "../../../core/index.ts";
import { checkInteger, checkOptions } from "../../../core/names.ts";
import { NEWER } from "./failure.ts";

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

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

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
  checkInteger("postgresInboxSql { from }", from, 0, VERSIONS.length);
  return versions(inboxTables("postgresInboxSql", options)).slice(from).flat();
}

/** Checks the names and quotes them. Throws `invalid`. */
export function inboxTables(
  where: string,
  { schema, table = "anybroker_inbox" }: PostgresInboxTableOptions,
): InboxTables {
  checkIdentifier(`${where} { table }`, table, 50);
  if (schema !== undefined) checkIdentifier(`${where} { schema }`, schema, 63);
  const prefix = schema === undefined ? "" : `"${schema}".`;
  return { inbox: `${prefix}"${table}"`, versions: `${prefix}"${table}_versions"` };
}

function checkIdentifier(where: string, name: unknown, longest: number): void {
  if (typeof name === "string" && name.length <= longest && NAME.test(name)) return;
  throw new MessagingError("invalid", `${where} takes letters, digits and _, no digit first, ${longest} at most`);
}

function first({ inbox, versions }: InboxTables): readonly string[] {
  return [
    `CREATE TABLE ${versions} (
  version integer PRIMARY KEY,
  reached_at timestamptz NOT NULL DEFAULT now()
)`,
    `CREATE TABLE ${inbox} (
  consumer text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, message_id)
)`,
    `CREATE INDEX ON ${inbox} (consumer, handled_at)`,
  ];
}

/** The statements of each version; the first is of version 1. None of them ever changes. */
const VERSIONS: readonly ((tables: InboxTables) => readonly string[])[] = [first];

/** The statements of each version, with the note that it is reached. */
function versions(tables: InboxTables): readonly (readonly string[])[] {
  return VERSIONS.map((statements, index) => [
    ...statements(tables),
    `INSERT INTO ${tables.versions} (version) VALUES (${index + 1})`,
  ]);
}

/** One statement that brings the table to the last version, whichever it has; of several at once the later ones find it. */
export function inboxMigration(tables: InboxTables): string {
  const steps = versions(tables).map(
    (statements, index) => `
  IF reached < ${index + 1} THEN
    ${statements.join(";\n    ")};
  END IF;`,
  );
  return `
DO $migration$
DECLARE reached integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_inbox', 0));
  IF to_regclass('${tables.versions}') IS NOT NULL THEN
    SELECT coalesce(max(version), 0) INTO reached FROM ${tables.versions};
  END IF;
  IF reached > ${VERSIONS.length} THEN
    RAISE EXCEPTION 'of version %', reached USING ERRCODE = '${NEWER}';
  END IF;${steps.join("")}
END $migration$`;
}

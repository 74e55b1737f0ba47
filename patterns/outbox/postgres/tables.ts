import { createHash } from "node:crypto";
import { MessagingError } from "../../../core/index.ts";

/** Where the rows are. */
export interface PostgresOutboxTableOptions {
  /**
   * The name of the table of what is not sent, and what the names of the others begin with: letters, digits and `_`, no
   * digit first, 50 at most. Default `anybroker_outbox`.
   */
  readonly table?: string;
  /**
   * The name of the schema they are in, of the same form, 63 at most. Default: whichever the connection's `search_path`
   * leads to.
   */
  readonly schema?: string;
}

/** The quoted names of the tables, and the name of the channel that writers notify. */
export interface Tables {
  /** Rows that are not sent. */
  readonly outbox: string;
  /** The locks of keys: one row a lane. */
  readonly lanes: string;
  /** Sent rows that are kept. */
  readonly sent: string;
  /** The versions that were migrated to. */
  readonly versions: string;
  readonly channel: string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const LONGEST_NAME = 63;
const LONGEST_TABLE = 50;

/** Checks the names and quotes them. Throws `invalid`. */
export function tablesOf(where: string, { schema, table = "anybroker_outbox" }: PostgresOutboxTableOptions): Tables {
  checkIdentifier(`${where} { table }`, table, LONGEST_TABLE);
  if (schema !== undefined) checkIdentifier(`${where} { schema }`, schema, LONGEST_NAME);
  const prefix = schema === undefined ? "" : `"${schema}".`;
  const named = (ending: string): string => `${prefix}"${table}${ending}"`;
  return {
    outbox: named(""),
    lanes: named("_lanes"),
    sent: named("_sent"),
    versions: named("_versions"),
    channel: `anybroker_${createHash("sha256").update(`${prefix}"${table}"`).digest("hex").slice(0, 32)}`,
  };
}

function checkIdentifier(where: string, name: unknown, longest: number): void {
  if (typeof name === "string" && name.length <= longest && NAME.test(name)) return;
  throw new MessagingError("invalid", `${where} takes letters, digits and _, no digit first, ${longest} at most`);
}

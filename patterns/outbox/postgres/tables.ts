import { createHash } from "node:crypto";
import { quotedNames } from "../../../sql/tables.ts";

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

/** Checks the names and quotes them. Throws `invalid`. */
export function tablesOf(where: string, { schema, table = "anybroker_outbox" }: PostgresOutboxTableOptions): Tables {
  const named = quotedNames(where, schema, table);
  return {
    outbox: named(""),
    lanes: named("_lanes"),
    sent: named("_sent"),
    versions: named("_versions"),
    channel: `anybroker_${createHash("sha256").update(named("")).digest("hex").slice(0, 32)}`,
  };
}

import { MessagingError } from "../core/errors.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Postgres cuts off what is longer. */
const LONGEST_NAME = 63;
/** So that the names of the tables and indexes beside it fit. */
const LONGEST_TABLE = 50;

/** Refuses a table's name that would need more care than quotes, with `invalid`. `where` is what messages call it. */
export function checkTableName(where: string, name: unknown): asserts name is string {
  checkIdentifier(where, name, LONGEST_TABLE);
}

/** Checks a table's name, and that of its schema, and quotes them with an ending. Throws `invalid`. */
export function quotedNames(where: string, schema: unknown, table: unknown): (ending: string) => string {
  checkTableName(`${where} { table }`, table);
  if (schema !== undefined) checkIdentifier(`${where} { schema }`, schema, LONGEST_NAME);
  const prefix = schema === undefined ? "" : `"${schema}".`;
  return (ending) => `${prefix}"${table}${ending}"`;
}

function checkIdentifier(where: string, name: unknown, longest: number): asserts name is string {
  if (typeof name === "string" && name.length <= longest && NAME.test(name)) return;
  throw new MessagingError("invalid", `${where} takes letters, digits and _, no digit first, ${longest} at most`);
}

/**
 * One statement for Postgres that runs others unless a table, by its quoted name, is there; of several at once the later
 * ones find it. `lock` names what they exclude each other by.
 */
export function unlessThere(lock: string, table: string, statements: readonly string[]): string {
  return `
DO $migration$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('${lock}', 0));
  IF to_regclass('${table}') IS NULL THEN
    ${statements.join(";\n")};
  END IF;
END $migration$`;
}

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

import { MessagingError } from "../../../core/index.ts";
import type { SqliteConnection } from "./connection.ts";
import type { SqliteDatabase } from "./database.ts";

/** The statements of each version, for a table's name; the first is of version 1. None of them ever changes. */
export type Versions = readonly ((table: string) => readonly string[])[];

/** The statements of the versions after one, each version with the note that it is reached. */
export function versionsSql(table: string, versions: Versions, from: number): readonly string[] {
  const steps = versions.map((statements, index) => [
    ...statements(table),
    `INSERT INTO "${table}_versions" (version) VALUES (${index + 1})`,
  ]);
  return [versionsTable(table), ...steps.flat()].slice(from === 0 ? 0 : 1 + steps.slice(0, from).flat().length);
}

function versionsTable(table: string): string {
  return `CREATE TABLE "${table}_versions" (
  version INTEGER PRIMARY KEY,
  reached_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT`;
}

/** Brings the database to the last version. Of several at once the later ones find it done. */
export async function migrate(
  connection: SqliteConnection<SqliteDatabase>,
  timeoutMs: number,
  table: string,
  versions: Versions,
): Promise<void> {
  const reached = (database: SqliteDatabase): number => versionOf(database, table, versions.length);
  // Most often there is nothing to do, and no lock to wait for.
  if ((await connection.read("migrate", timeoutMs, reached)) === versions.length) return;
  await connection.write("migrate", timeoutMs, (database) => {
    const from = reached(database);
    if (from === versions.length) return;
    for (const statement of versionsSql(table, versions, from)) database.exec(statement);
  });
}

function versionOf(database: SqliteDatabase, table: string, last: number): number {
  const known = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
  const isThere = (name: string): boolean => known.get(name) !== undefined;
  if (!isThere(`${table}_versions`)) return isThere(table) ? unversioned(table) : 0;
  const newest = database.prepare(`SELECT coalesce(max(version), 0) AS version FROM "${table}_versions"`).get();
  const { version } = newest as { readonly version: number };
  if (version === 0) unversioned(table);
  if (version <= last) return version;
  throw new MessagingError(
    "conflict",
    `the SQLite table "${table}" is of version ${version}, made by a newer anybroker, and this one knows ${last}: install the newer one here`,
  );
}

function unversioned(table: string): never {
  throw new MessagingError(
    "conflict",
    `the SQLite database has a table "${table}" or "${table}_versions", and no version is noted: somebody emptied or dropped the latter. Note the version that the table has, as INSERT INTO "${table}_versions" (version) VALUES (1), or drop both, and migrate again`,
  );
}

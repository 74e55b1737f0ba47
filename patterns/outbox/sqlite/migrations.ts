import { MessagingError } from "../../../core/index.ts";
import type { SqliteConnection } from "./connection.ts";
import type { SqliteDatabase } from "./database.ts";

/** The statements of each version, for a table's name; the first is of version 1. None of them ever changes. */
export type Migrations = readonly ((table: string) => readonly string[])[];

/** The statements that bring a database from a version to the newest, in order; 0 is an empty one. */
export function migrationSql(table: string, migrations: Migrations, from: number): readonly string[] {
  return [
    `CREATE TABLE IF NOT EXISTS "${table}_versions" (
  version INTEGER PRIMARY KEY,
  made_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT`,
    ...migrations
      .map((statements, index) => ({ version: index + 1, statements }))
      .filter(({ version }) => version > from)
      .flatMap(({ version, statements }) => [
        ...statements(table),
        `INSERT INTO "${table}_versions" (version) VALUES (${version})`,
      ]),
  ];
}

/** Brings the database to the newest version. Of several at once the later ones find it done. */
export async function migrate(
  connection: SqliteConnection<SqliteDatabase>,
  timeoutMs: number,
  table: string,
  migrations: Migrations,
): Promise<void> {
  // Most often there is nothing to do, and no lock to wait for.
  if ((await connection.read("migrate", timeoutMs, (database) => versionOf(database, table))) === migrations.length)
    return;
  await connection.write("migrate", timeoutMs, (database) => {
    const version = versionOf(database, table);
    if (version > migrations.length) {
      throw new MessagingError(
        "conflict",
        `the SQLite table "${table}" is of version ${version}, made by a newer anybroker; this one knows ${migrations.length}: install the newer one here`,
      );
    }
    if (version === migrations.length) return;
    for (const statement of migrationSql(table, migrations, version)) database.exec(statement);
  });
}

function versionOf(database: SqliteDatabase, table: string): number {
  const known = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
  if (known.get(`${table}_versions`) === undefined) return 0;
  const newest = database.prepare(`SELECT coalesce(max(version), 0) AS version FROM "${table}_versions"`).get();
  return (newest as { readonly version: number }).version;
}

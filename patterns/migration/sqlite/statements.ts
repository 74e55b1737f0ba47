import { CLASS, MARK, PUBLISHED_AND_HANDLED } from "../marks.ts";
import type { JournalClass } from "../store.ts";
import type { SqliteDatabase, SqliteStatement } from "./database.ts";

/** SQLite's own time of day, in milliseconds; the same all through one statement. */
const NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

function inClass(which: JournalClass): string {
  const { mask, value } = CLASS[which];
  return `marks & ${mask} = ${value}`;
}

/** What makes the tables. */
export function schemaOf(table: string): string {
  return `
CREATE TABLE IF NOT EXISTS "${table}" (
  migration TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL, document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_instances" (
  migration TEXT NOT NULL, instance TEXT NOT NULL, acting INTEGER NOT NULL, report TEXT NOT NULL, ends_at INTEGER NOT NULL,
  PRIMARY KEY (migration, instance)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_seals" (
  migration TEXT NOT NULL, scope TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (migration, scope)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_journal" (
  migration TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, marks INTEGER NOT NULL, marked_at INTEGER NOT NULL,
  PRIMARY KEY (migration, source, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_folded" (
  migration TEXT NOT NULL, source TEXT NOT NULL, messages INTEGER NOT NULL, PRIMARY KEY (migration, source)
) STRICT, WITHOUT ROWID;`;
}

/** The statements of the store, by what they do. */
export type Statements = Readonly<Record<keyof ReturnType<typeof texts>, SqliteStatement>>;

export function prepareAll(database: SqliteDatabase, table: string): Statements {
  const prepared = Object.entries(texts(table)).map(([name, sql]) => [name, database.prepare(sql)]);
  return Object.fromEntries(prepared) as Statements;
}

function texts(table: string) {
  const list = (which: JournalClass): string =>
    `SELECT id FROM "${table}_journal" WHERE migration = ? AND source = ? AND id > ? AND ${inClass(which)} ORDER BY id LIMIT ?`;
  const sum = (condition: string): string => `sum(iif(${condition}, 1, 0))`;
  return {
    beat: `INSERT INTO "${table}_instances" (migration, instance, acting, report, ends_at) VALUES (?, ?, ?, ?, ${NOW} + ?)
ON CONFLICT (migration, instance) DO UPDATE SET acting = excluded.acting, report = excluded.report, ends_at = excluded.ends_at`,
    state: `SELECT revision, document FROM "${table}" WHERE migration = ?`,
    instances: `SELECT instance, acting, report, ends_at - ${NOW} AS remainingMs FROM "${table}_instances"
WHERE migration = ? AND ends_at > ${NOW} ORDER BY instance`,
    now: `SELECT ${NOW} AS now`,
    leave: `DELETE FROM "${table}_instances" WHERE migration = ? AND instance = ?`,
    clearInstances: `DELETE FROM "${table}_instances" WHERE migration = ? AND ends_at < ${NOW} - 3600000`,
    begin: `INSERT INTO "${table}" (migration, revision, document) VALUES (?, 1, ?) ON CONFLICT DO NOTHING`,
    change: `UPDATE "${table}" SET revision = revision + 1, document = ? WHERE migration = ? AND revision = ?`,
    seal: `INSERT INTO "${table}_seals" AS known (migration, scope, epoch) VALUES (?, ?, ?)
ON CONFLICT (migration, scope) DO UPDATE SET epoch = max(known.epoch, excluded.epoch)`,
    sealed: `SELECT epoch FROM "${table}_seals" WHERE migration = ? AND scope = ?`,
    clearSeals: `DELETE FROM "${table}_seals" WHERE migration = ?`,
    mark: `INSERT INTO "${table}_journal" AS known (migration, source, id, marks, marked_at) VALUES (?, ?, ?, ?, ${NOW})
ON CONFLICT (migration, source, id) DO UPDATE SET marks = known.marks | excluded.marks, marked_at = excluded.marked_at`,
    counts: `SELECT source, ${sum(`marks & ${MARK.published} <> 0`)} AS published, ${sum(`marks & ${MARK.handled} <> 0`)} AS handled,
${sum(inClass("missing"))} AS missing, ${sum(inClass("dead"))} AS dead, ${sum(inClass("unexpected"))} AS unexpected
FROM "${table}_journal" WHERE migration = ? GROUP BY source ORDER BY source`,
    folded: `SELECT source, messages FROM "${table}_folded" WHERE migration = ? ORDER BY source`,
    missing: list("missing"),
    dead: list("dead"),
    unexpected: list("unexpected"),
    foldable: `SELECT source, id FROM "${table}_journal" WHERE migration = ?
AND marks & ${PUBLISHED_AND_HANDLED} = ${PUBLISHED_AND_HANDLED} AND marked_at < ${NOW} - ? LIMIT ?`,
    unmark: `DELETE FROM "${table}_journal" WHERE migration = ? AND source = ? AND id = ?`,
    count: `INSERT INTO "${table}_folded" AS known (migration, source, messages) VALUES (?, ?, 1)
ON CONFLICT (migration, source) DO UPDATE SET messages = known.messages + 1`,
    forgetState: `DELETE FROM "${table}" WHERE migration = ?`,
    forgetInstances: `DELETE FROM "${table}_instances" WHERE migration = ?`,
    forgetJournal: `DELETE FROM "${table}_journal" WHERE migration = ?`,
    forgetFolded: `DELETE FROM "${table}_folded" WHERE migration = ?`,
  };
}

import { checkInteger } from "../core/checks.ts";
import { MessagingError } from "../core/errors.ts";
import { NEWER_VERSION } from "./postgres.ts";
import type { OwnedSqliteDatabase, SqliteDatabase } from "./sqlite.ts";
import type { SqliteConnection } from "./sqlite-connection.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Postgres truncates longer names. */
const LONGEST_NAME = 63;
/** Leaves room for the endings of the other tables and of indexes. */
const LONGEST_TABLE = 50;

/** Checks a table's name: it needs no escaping in quotes. Throws `invalid`. */
export function checkTableName(where: string, name: unknown): asserts name is string {
  checkIdentifier(where, name, LONGEST_TABLE);
}

/** Checks the names of a table and its schema. Returns a function that quotes them with an ending. Throws `invalid`. */
export function quotedNames(where: string, schema: unknown, table: unknown): (ending: string) => string {
  checkTableName(`${where} { table }`, table);
  if (schema !== undefined) checkIdentifier(`${where} { schema }`, schema, LONGEST_NAME);
  const prefix = schema === undefined ? "" : `"${schema}".`;
  return (ending) => `${prefix}"${table}${ending}"`;
}

function checkIdentifier(where: string, name: unknown, longest: number): asserts name is string {
  if (typeof name === "string" && name.length <= longest && NAME.test(name)) return;
  throw new MessagingError(
    "invalid",
    `${where} takes letters, digits and _, does not begin with a digit, and has ${longest} characters or fewer`,
  );
}

/**
 * One Postgres statement that runs others unless a table exists, given its quoted name. Concurrent calls with the same
 * `lock` run one after another.
 */
export function unlessExists(lock: string, table: string, statements: readonly string[]): string {
  return `
DO $migration$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('${lock}', 0));
  IF to_regclass('${table}') IS NULL THEN
    ${statements.join(";\n")};
  END IF;
END $migration$`;
}

/** The versions of a store's tables in Postgres. A released version never changes. */
export class PostgresSchema {
  readonly #versions: string;
  readonly #steps: readonly (readonly string[])[];
  readonly #always: string;

  /**
   * `versions` is the quoted name of the table of versions, and `steps` has the statements of version 1 and later. Each
   * migration ends with `always`, in PL/pgSQL.
   */
  constructor(versions: string, steps: readonly (readonly string[])[], always = "") {
    this.#versions = versions;
    this.#always = always;
    const create = `CREATE TABLE ${versions} (
  version integer PRIMARY KEY,
  reached_at timestamptz NOT NULL DEFAULT now()
)`;
    this.#steps = steps.map((statements, index) => [
      ...(index === 0 ? [create] : []),
      ...statements,
      `INSERT INTO ${versions} (version) VALUES (${index + 1})`,
    ]);
  }

  /** The statements that lead from a version to the last one; from 0, all. Throws `invalid` for an unknown version. */
  from(where: string, version = 0): readonly string[] {
    checkInteger(`${where} { from }`, version, 0, this.#steps.length);
    return this.#steps.slice(version).flat();
  }

  /** One statement that leads from any version to the last one. Concurrent migrations run one after another. */
  migration(): string {
    const steps = this.#steps.map(
      (statements, index) => `
  IF reached < ${index + 1} THEN
    ${statements.join(";\n    ")};
  END IF;`,
    );
    return `
DO $migration$
DECLARE reached integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_outbox', 0));
  IF to_regclass('${this.#versions}') IS NOT NULL THEN
    SELECT coalesce(max(version), 0) INTO reached FROM ${this.#versions};
  END IF;
  IF reached > ${this.#steps.length} THEN
    RAISE EXCEPTION 'of version %', reached USING ERRCODE = '${NEWER_VERSION}';
  END IF;${steps.join("")}${this.#always}
END $migration$`;
  }
}

/** The versions of a store's tables in SQLite. A released version never changes. */
export class SqliteSchema {
  readonly #steps: readonly ((table: string) => readonly string[])[];

  /** The statements of version 1 and later, for the table's checked name. */
  constructor(steps: readonly ((table: string) => readonly string[])[]) {
    this.#steps = steps;
  }

  /** The statements that lead from a version to the last one; from 0, all. Throws `invalid` for an unknown version. */
  from(where: string, table: string, version = 0): readonly string[] {
    checkInteger(`${where} { from }`, version, 0, this.#steps.length);
    return this.#statements(table, version);
  }

  /** Brings the database to the last version. Concurrent migrations run one after another. */
  async migrate(connection: SqliteConnection<OwnedSqliteDatabase>, timeoutMs: number, table: string): Promise<void> {
    const reached = (database: SqliteDatabase): number => this.#reached(database, table);
    // Reading needs no lock, and most often there is nothing to do.
    if ((await connection.read("migrate", timeoutMs, reached)) === this.#steps.length) return;
    await connection.write("migrate", timeoutMs, (database) => {
      for (const statement of this.#statements(table, reached(database))) database.exec(statement);
    });
  }

  #statements(table: string, from: number): readonly string[] {
    const create = `CREATE TABLE "${table}_versions" (
  version INTEGER PRIMARY KEY,
  reached_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT`;
    const steps = this.#steps.map((statements, index) => [
      ...(index === 0 ? [create] : []),
      ...statements(table),
      `INSERT INTO "${table}_versions" (version) VALUES (${index + 1})`,
    ]);
    return steps.slice(from).flat();
  }

  #reached(database: SqliteDatabase, table: string): number {
    const find = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
    if (find.get(`${table}_versions`) === undefined) {
      if (find.get(table) !== undefined) throw withoutVersion(table);
      return 0;
    }
    const newest = database.prepare(`SELECT coalesce(max(version), 0) AS version FROM "${table}_versions"`).get();
    const { version } = newest as { readonly version: number };
    if (version === 0) throw withoutVersion(table);
    if (version <= this.#steps.length) return version;
    throw new MessagingError(
      "conflict",
      `a newer anybroker made the SQLite table "${table}", of version ${version}, and this one knows ${this.#steps.length}: install the newer one here`,
    );
  }
}

function withoutVersion(table: string): MessagingError {
  return new MessagingError(
    "conflict",
    `the SQLite database has a table "${table}" or "${table}_versions", but no version is noted: the latter was emptied or dropped. Note the version of the table, as INSERT INTO "${table}_versions" (version) VALUES (1), or drop both, and migrate again`,
  );
}

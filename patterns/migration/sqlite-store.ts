import { checkOptions } from "../../core/checks.ts";
import { checkTableName } from "../../sql/schema.ts";
import {
  SQLITE_NOW as NOW,
  runSqlite,
  type SqliteDatabase,
  SqliteQueries,
  type SqliteStatement,
} from "../../sql/sqlite.ts";
import { inClass, MARK, PUBLISHED_AND_HANDLED } from "./memory-store.ts";
import type {
  BarrierAck,
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MigrationStore,
  StoredInstance,
  StoredMigration,
} from "./store.ts";

export type { SqliteDatabase, SqliteStatement, SqliteValue } from "../../sql/sqlite.ts";

/** The statements that create the tables. */
function schemaOf(table: string): string {
  return `
CREATE TABLE IF NOT EXISTS "${table}" (
  migration TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL, document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_instances" (
  migration TEXT NOT NULL, instance TEXT NOT NULL, acting INTEGER NOT NULL, report TEXT NOT NULL, ends_at INTEGER NOT NULL,
  PRIMARY KEY (migration, instance)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "${table}_barrier_acks" (
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

/** The prepared statements. */
type Statements = Readonly<Record<keyof ReturnType<typeof texts>, SqliteStatement>>;

function prepareAll(database: SqliteDatabase, table: string): Statements {
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
    acknowledgeBarrier: `INSERT INTO "${table}_barrier_acks" AS known (migration, scope, epoch) VALUES (?, ?, ?)
ON CONFLICT (migration, scope) DO UPDATE SET epoch = max(known.epoch, excluded.epoch)`,
    acknowledged: `SELECT epoch FROM "${table}_barrier_acks" WHERE migration = ? AND scope = ?`,
    clearBarrierAcks: `DELETE FROM "${table}_barrier_acks" WHERE migration = ?`,
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

/** The store's name in messages. */
const STORE = "migration state store";

/** The options of {@link sqliteMigrationStore}. */
export interface SqliteMigrationStoreOptions {
  /** The prefix of the table names: letters, digits and `_`, no leading digit, at most 50. Default `anybroker_migration`. */
  readonly table?: string;
}

/**
 * A state store in a SQLite database, for the processes of one machine. Uses the machine's clock. Creates its tables.
 *
 * Pass a connection that nothing else uses, in WAL mode and with a short `timeout`: a call blocks the event loop that long
 * while another process holds the lock. In an open transaction calls reject with `conflict`, since a rollback would undo
 * agreed changes. The store never closes the connection. Throws `invalid` for wrong options.
 */
export function sqliteMigrationStore(
  database: SqliteDatabase,
  options: SqliteMigrationStoreOptions = {},
): MigrationStore {
  checkOptions("sqliteMigrationStore", options, ["table"]);
  const { table = "anybroker_migration" } = options;
  checkTableName("sqliteMigrationStore { table }", table);
  return new SqliteMigrationStore(database, table);
}

class SqliteMigrationStore implements MigrationStore {
  readonly name = "sqlite";
  readonly #database: SqliteDatabase;
  readonly #queries: SqliteQueries;
  readonly #statements: Statements;

  constructor(database: SqliteDatabase, table: string) {
    this.#database = database;
    this.#queries = new SqliteQueries(STORE, database);
    this.#statements = runSqlite(STORE, "create the tables", () => {
      database.exec(schemaOf(table));
      return prepareAll(database, table);
    });
  }

  async read(migration: string): Promise<StoredMigration> {
    return this.#ask("read the state", () => this.#read(migration));
  }

  #read(migration: string): StoredMigration {
    const { state, instances, now } = this.#statements;
    const found = state.get(migration) as { readonly revision: number; readonly document: string } | undefined;
    return {
      revision: found?.revision ?? 0,
      document: found?.document,
      instances: instances.all(migration) as unknown as readonly StoredInstance[],
      now: (now.get() as { readonly now: number }).now,
    };
  }

  async beat(migration: string, { instance, acting, report, leaseMs }: InstanceBeat): Promise<StoredMigration> {
    return this.#ask("take a beat", () => {
      this.#statements.beat.run(migration, instance, acting, report, leaseMs);
      return this.#read(migration);
    });
  }

  async leave(migration: string, instance: string): Promise<void> {
    this.#ask("forget an instance", () => this.#statements.leave.run(migration, instance));
  }

  async change(migration: string, expected: number, document: string): Promise<"changed" | "conflict"> {
    const { begin, change, clearInstances } = this.#statements;
    return this.#ask("take a change", () => {
      const { changes } = expected === 0 ? begin.run(migration, document) : change.run(document, migration, expected);
      if (Number(changes) === 0) return "conflict";
      clearInstances.run(migration);
      return "changed";
    });
  }

  async acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void> {
    this.#ask("store barrier acknowledgements", () => {
      for (const { scope, epoch } of barrierAcks) this.#statements.acknowledgeBarrier.run(migration, scope, epoch);
    });
  }

  async barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    const { acknowledged } = this.#statements;
    return this.#ask("read barrier acknowledgements", () =>
      scopes.map((scope) => (acknowledged.get(migration, scope) as { readonly epoch: number } | undefined)?.epoch ?? 0),
    );
  }

  async clearBarrierAcks(migration: string): Promise<void> {
    this.#ask("remove barrier acknowledgements", () => this.#statements.clearBarrierAcks.run(migration));
  }

  async mark(migration: string, marks: readonly JournalMark[]): Promise<void> {
    this.#ask("take marks", () => {
      for (const { source, id, mark } of marks) this.#statements.mark.run(migration, source, id, MARK[mark]);
    });
  }

  async counts(migration: string): Promise<readonly JournalCounts[]> {
    return this.#ask("count", () => {
      const counts = this.#statements.counts.all(migration) as unknown as readonly JournalCounts[];
      const folded = this.#statements.folded.all(migration) as { readonly source: string; readonly messages: number }[];
      const only = folded.filter(({ source }) => !counts.some((each) => each.source === source));
      const nothing = only.map(({ source }) => ({
        source,
        published: 0,
        handled: 0,
        missing: 0,
        dead: 0,
        unexpected: 0,
      }));
      return [...counts, ...nothing].map((each) => {
        const { messages = 0 } = folded.find(({ source }) => source === each.source) ?? {};
        return { ...each, published: each.published + messages, handled: each.handled + messages };
      });
    });
  }

  async list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    return this.#ask("list ids", () => {
      const rows = this.#statements[which].all(migration, source, after ?? "", limit) as { readonly id: string }[];
      return rows.map(({ id }) => id);
    });
  }

  async fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    const { foldable, unmark, count } = this.#statements;
    return this.#ask("fold", () => {
      const rows = foldable.all(migration, olderThanMs, limit) as { readonly source: string; readonly id: string }[];
      for (const { source, id } of rows) {
        unmark.run(migration, source, id);
        count.run(migration, source);
      }
      return rows.length;
    });
  }

  async forget(migration: string): Promise<void> {
    const { forgetState, forgetInstances, clearBarrierAcks, forgetJournal, forgetFolded } = this.#statements;
    this.#ask("forget", () => {
      for (const each of [forgetState, forgetInstances, clearBarrierAcks, forgetJournal, forgetFolded])
        each.run(migration);
    });
  }

  /** Runs a call in a transaction that takes the write lock first. */
  #ask<T>(action: string, call: () => T): T {
    const database = this.#database;
    return this.#queries.run(action, () => {
      database.exec("BEGIN IMMEDIATE");
      try {
        const result = call();
        database.exec("COMMIT");
        return result;
      } catch (error) {
        database.exec("ROLLBACK");
        throw error;
      }
    });
  }
}

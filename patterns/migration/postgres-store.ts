import { checkInteger, checkOptions } from "../../core/checks.ts";
import { asTexts, fromNow, type PostgresDatabase, PostgresQueries, rowOf, wholeNumber } from "../../sql/postgres.ts";
import { quotedNames, unlessExists } from "../../sql/schema.ts";
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

export type { PostgresDatabase } from "../../sql/postgres.ts";

/** The names of the store's tables. */
export interface PostgresMigrationTableOptions {
  /** The prefix of the table names: letters, digits and `_`, no leading digit, at most 50. Default `anybroker_migration`. */
  readonly table?: string;
  /** Their schema: letters, digits and `_`, no leading digit, at most 63. Default: as by the connection's `search_path`. */
  readonly schema?: string;
}

/** The quoted table names. */
interface Tables {
  readonly states: string;
  readonly instances: string;
  readonly barrierAcks: string;
  readonly journal: string;
  readonly folded: string;
}

/** Quotes the names. Throws `invalid`. */
function tablesOf(where: string, { schema, table = "anybroker_migration" }: PostgresMigrationTableOptions): Tables {
  const quoted = quotedNames(where, schema, table);
  return {
    states: quoted(""),
    instances: quoted("_instances"),
    barrierAcks: quoted("_barrier_acks"),
    journal: quoted("_journal"),
    folded: quoted("_folded"),
  };
}

/**
 * Returns the statements that create the tables, for your own migration tool. Run each once, with the right to create in the
 * schema. The store's `migrate` runs the same. Throws `invalid` for wrong options.
 */
export function postgresMigrationSql(options: PostgresMigrationTableOptions = {}): readonly string[] {
  checkOptions("postgresMigrationSql", options, ["table", "schema"]);
  return tableSql(tablesOf("postgresMigrationSql", options));
}

function tableSql({ states, instances, barrierAcks, journal, folded }: Tables): readonly string[] {
  return [
    `CREATE TABLE ${states} (
  migration text COLLATE "C" PRIMARY KEY,
  revision bigint NOT NULL,
  document text NOT NULL
)`,
    `CREATE TABLE ${instances} (
  migration text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  acting bigint NOT NULL,
  report text NOT NULL,
  ends_at timestamptz NOT NULL,
  PRIMARY KEY (migration, instance)
)`,
    `CREATE TABLE ${barrierAcks} (
  migration text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  epoch integer NOT NULL,
  PRIMARY KEY (migration, scope)
)`,
    `CREATE TABLE ${journal} (
  migration text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  marks smallint NOT NULL,
  marked_at timestamptz NOT NULL,
  PRIMARY KEY (migration, source, id)
)`,
    `CREATE TABLE ${folded} (
  migration text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  messages bigint NOT NULL,
  PRIMARY KEY (migration, source)
)`,
  ];
}

/** One statement that creates the tables if they do not exist. Concurrent calls are safe. */
function migrationOf(tables: Tables): string {
  return unlessExists("anybroker_migration", tables.folded, tableSql(tables));
}

const epochMs = (at: string): string => `(extract(epoch FROM ${at}) * 1000)::float8`;

function statements({ states, instances, barrierAcks, journal, folded }: Tables) {
  const list = (which: JournalClass): string =>
    `SELECT id FROM ${journal} WHERE migration = $1 AND source = $2 AND ($3::text IS NULL OR id > $3) AND ${inClass(which)} ORDER BY id LIMIT $4`;
  return {
    beat: `INSERT INTO ${instances} AS known (migration, instance, acting, report, ends_at) VALUES ($1, $2, $3, $4, ${fromNow("$5")})
ON CONFLICT (migration, instance) DO UPDATE SET acting = excluded.acting, report = excluded.report, ends_at = excluded.ends_at`,
    // One snapshot for state and instances, newer than the beat before.
    read: asTexts(`SELECT state.revision::float8 AS revision, state.document, ${epochMs("clock_timestamp()")} AS now, coalesce((
  SELECT json_agg(json_build_object('instance', instance, 'acting', acting, 'report', report,
    'remainingMs', ${epochMs("ends_at - clock_timestamp()")}) ORDER BY instance)
  FROM ${instances} WHERE migration = $1 AND ends_at > clock_timestamp()
), '[]'::json) AS instances
FROM (SELECT 1) AS one LEFT JOIN ${states} AS state ON state.migration = $1`),
    leave: `DELETE FROM ${instances} WHERE migration = $1 AND instance = $2`,
    clearInstances: `DELETE FROM ${instances} WHERE migration = $1 AND ends_at < clock_timestamp() - interval '1 hour'`,
    begin: `INSERT INTO ${states} (migration, revision, document) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING RETURNING 1`,
    change: `UPDATE ${states} SET revision = revision + 1, document = $3 WHERE migration = $1 AND revision = $2 RETURNING 1`,
    // Sorted, so that two batches do not deadlock.
    acknowledgeBarrier: `INSERT INTO ${barrierAcks} AS known (migration, scope, epoch)
SELECT $1, scope, max(epoch) FROM unnest($2::text[], $3::integer[]) AS given (scope, epoch) GROUP BY scope ORDER BY scope
ON CONFLICT (migration, scope) DO UPDATE SET epoch = excluded.epoch WHERE known.epoch < excluded.epoch`,
    barrierAcks: asTexts(`SELECT scope, epoch FROM ${barrierAcks} WHERE migration = $1 AND scope = ANY ($2::text[])`),
    clearBarrierAcks: `DELETE FROM ${barrierAcks} WHERE migration = $1`,
    mark: `INSERT INTO ${journal} AS known (migration, source, id, marks, marked_at)
SELECT $1, source, id, bit_or(mark), clock_timestamp()
FROM unnest($2::text[], $3::text[], $4::smallint[]) AS given (source, id, mark) GROUP BY source, id ORDER BY source, id
ON CONFLICT (migration, source, id) DO UPDATE SET marks = known.marks | excluded.marks, marked_at = excluded.marked_at
WHERE known.marks | excluded.marks <> known.marks`,
    counts: asTexts(`
WITH marked AS (
  SELECT source,
    count(*) FILTER (WHERE marks & ${MARK.published} <> 0) AS published,
    count(*) FILTER (WHERE marks & ${MARK.handled} <> 0) AS handled,
    count(*) FILTER (WHERE ${inClass("missing")}) AS missing,
    count(*) FILTER (WHERE ${inClass("dead")}) AS dead,
    count(*) FILTER (WHERE ${inClass("unexpected")}) AS unexpected
  FROM ${journal} WHERE migration = $1 GROUP BY source
), gone AS (SELECT source, messages FROM ${folded} WHERE migration = $1)
SELECT source, (coalesce(published, 0) + coalesce(messages, 0))::float8 AS published,
  (coalesce(handled, 0) + coalesce(messages, 0))::float8 AS handled, coalesce(missing, 0)::float8 AS missing,
  coalesce(dead, 0)::float8 AS dead, coalesce(unexpected, 0)::float8 AS unexpected
FROM marked FULL JOIN gone USING (source) ORDER BY source`),
    list: { missing: list("missing"), dead: list("dead"), unexpected: list("unexpected") },
    fold: `
WITH gone AS (
  DELETE FROM ${journal} WHERE migration = $1 AND (source, id) IN (
    SELECT source, id FROM ${journal} WHERE migration = $1 AND marks & ${PUBLISHED_AND_HANDLED} = ${PUBLISHED_AND_HANDLED}
      AND marked_at < clock_timestamp() - $2::float8 * interval '1 millisecond' LIMIT $3
  ) RETURNING source
), counted AS (
  INSERT INTO ${folded} AS known (migration, source, messages)
  SELECT $1, source, count(*) FROM gone GROUP BY source ORDER BY source
  ON CONFLICT (migration, source) DO UPDATE SET messages = known.messages + excluded.messages
)
SELECT count(*)::text AS folded FROM gone`,
    forget: `
WITH a AS (DELETE FROM ${instances} WHERE migration = $1), b AS (DELETE FROM ${barrierAcks} WHERE migration = $1),
  c AS (DELETE FROM ${journal} WHERE migration = $1), d AS (DELETE FROM ${folded} WHERE migration = $1)
DELETE FROM ${states} WHERE migration = $1`,
  };
}

/** The options of {@link postgresMigrationStore}. */
export interface PostgresMigrationStoreOptions extends PostgresMigrationTableOptions {
  /** The timeout of a call, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

/** A state store in a Postgres database. */
export interface PostgresMigrationStore extends MigrationStore {
  /**
   * Creates the tables if they do not exist; concurrent calls are safe. Only the first call needs the right to create in the
   * schema. Rejects as the other calls do, and with `not-found` if the schema does not exist.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * A state store in a Postgres database, for processes on any machine. Uses the database server's clock. Pass a pool, not a
 * client with an open transaction. The store never ends the pool. Throws `invalid` for wrong options.
 */
export function postgresMigrationStore(
  database: PostgresDatabase,
  options: PostgresMigrationStoreOptions = {},
): PostgresMigrationStore {
  const where = "postgresMigrationStore";
  checkOptions(where, options, ["table", "schema", "timeoutMs"]);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  return new PostgresStore(database, tablesOf(where, options), timeoutMs);
}

interface StateRow {
  readonly revision: number | null;
  readonly document: string | null;
  readonly now: number;
  readonly instances: readonly StoredInstance[];
}

class PostgresStore implements PostgresMigrationStore {
  readonly name = "postgres";
  readonly #queries: PostgresQueries;
  readonly #tables: Tables;
  readonly #statements: ReturnType<typeof statements>;

  constructor(database: PostgresDatabase, tables: Tables, timeoutMs: number) {
    this.#queries = new PostgresQueries(database, "migration state store", timeoutMs);
    this.#tables = tables;
    this.#statements = statements(tables);
  }

  async migrate(): Promise<void> {
    await this.#queries.rows("create the tables", migrationOf(this.#tables));
  }

  async read(migration: string): Promise<StoredMigration> {
    const [row] = await this.#queries.rows("read the state", this.#statements.read, [migration]);
    const { revision, document, now, instances } = rowOf<StateRow>(row);
    return { revision: revision ?? 0, document: document ?? undefined, now, instances };
  }

  async beat(migration: string, { instance, acting, report, leaseMs }: InstanceBeat): Promise<StoredMigration> {
    await this.#queries.rows("take a beat", this.#statements.beat, [migration, instance, acting, report, leaseMs]);
    return this.read(migration);
  }

  async leave(migration: string, instance: string): Promise<void> {
    await this.#queries.rows("forget an instance", this.#statements.leave, [migration, instance]);
  }

  async change(migration: string, expected: number, document: string): Promise<"changed" | "conflict"> {
    const { begin, change, clearInstances } = this.#statements;
    const rows =
      expected === 0
        ? await this.#queries.rows("take a change", begin, [migration, document])
        : await this.#queries.rows("take a change", change, [migration, expected, document]);
    if (rows.length === 0) return "conflict";
    await this.#queries.rows("clean up", clearInstances, [migration]).catch(() => undefined);
    return "changed";
  }

  async acknowledgeBarrier(migration: string, barrierAcks: readonly BarrierAck[]): Promise<void> {
    const values = [migration, barrierAcks.map(({ scope }) => scope), barrierAcks.map(({ epoch }) => epoch)];
    await this.#queries.rows("store barrier acknowledgements", this.#statements.acknowledgeBarrier, values);
  }

  async barrierAcks(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    const rows = await this.#queries.rows("read barrier acknowledgements", this.#statements.barrierAcks, [
      migration,
      scopes,
    ]);
    const epochs = new Map(rows.map((row) => rowOf<BarrierAck>(row)).map(({ scope, epoch }) => [scope, epoch]));
    return scopes.map((scope) => epochs.get(scope) ?? 0);
  }

  async clearBarrierAcks(migration: string): Promise<void> {
    await this.#queries.rows("remove barrier acknowledgements", this.#statements.clearBarrierAcks, [migration]);
  }

  async mark(migration: string, marks: readonly JournalMark[]): Promise<void> {
    const sources = marks.map(({ source }) => source);
    const ids = marks.map(({ id }) => id);
    const bits = marks.map(({ mark }) => MARK[mark]);
    await this.#queries.rows("take marks", this.#statements.mark, [migration, sources, ids, bits]);
  }

  async counts(migration: string): Promise<readonly JournalCounts[]> {
    const rows = await this.#queries.rows("count", this.#statements.counts, [migration]);
    return rows.map((row) => rowOf<JournalCounts>(row));
  }

  async list(
    migration: string,
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    const values = [migration, source, after ?? null, limit];
    const rows = await this.#queries.rows("list ids", this.#statements.list[which], values);
    return (rows as readonly { readonly id: string }[]).map(({ id }) => id);
  }

  async fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    const [row] = await this.#queries.rows("fold", this.#statements.fold, [migration, olderThanMs, limit]);
    return wholeNumber((row as { readonly folded: unknown }).folded);
  }

  async forget(migration: string): Promise<void> {
    await this.#queries.rows("forget", this.#statements.forget, [migration]);
  }
}

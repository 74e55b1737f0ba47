import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, systemClock } from "../../../core/index.ts";
import { ask } from "../../../core/stores.ts";
import { rowOf, wholeNumber } from "../../../sql/postgres.ts";
import { MARK } from "../marks.ts";
import type {
  InstanceBeat,
  JournalClass,
  JournalCounts,
  JournalMark,
  MigrationStore,
  Seal,
  StoredInstance,
  StoredMigration,
} from "../store.ts";
import type { PostgresDatabase } from "./database.ts";
import { failure } from "./failure.ts";
import { type Statements, statements } from "./statements.ts";
import { migrationOf, type PostgresMigrationTableOptions, type Tables, tablesOf } from "./tables.ts";

/** The options of {@link postgresMigrationStore}. */
export interface PostgresMigrationStoreOptions extends PostgresMigrationTableOptions {
  /** Milliseconds after which a call that got no answer rejects. Default 5,000. */
  readonly timeoutMs?: number;
}

/** A state store in a Postgres database. */
export interface PostgresMigrationStore extends MigrationStore {
  /**
   * Makes the tables unless they are there, also if many do at once. Only the first time it needs the right to create in the
   * schema. Rejects like the other calls, and with `not-found` if there is no such schema.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * A state store in a Postgres database, for the processes of all machines. Its time is the database server's. Give it a pool,
 * never a client with an open transaction; the store never ends the pool. Throws `invalid` for wrong options.
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
  readonly #database: PostgresDatabase;
  readonly #tables: Tables;
  readonly #statements: Statements;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();

  constructor(database: PostgresDatabase, tables: Tables, timeoutMs: number) {
    this.#database = database;
    this.#tables = tables;
    this.#statements = statements(tables);
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await this.#ask("make the tables", migrationOf(this.#tables));
  }

  async read(migration: string): Promise<StoredMigration> {
    const [row] = await this.#ask("read the state", this.#statements.read, [migration]);
    const { revision, document, now, instances } = rowOf<StateRow>(row);
    return { revision: revision ?? 0, document: document ?? undefined, now, instances };
  }

  async beat(migration: string, { instance, acting, report, leaseMs }: InstanceBeat): Promise<StoredMigration> {
    await this.#ask("take a beat", this.#statements.beat, [migration, instance, acting, report, leaseMs]);
    return this.read(migration);
  }

  async leave(migration: string, instance: string): Promise<void> {
    await this.#ask("forget an instance", this.#statements.leave, [migration, instance]);
  }

  async change(migration: string, expected: number, document: string): Promise<"changed" | "conflict"> {
    const { begin, change, clearInstances } = this.#statements;
    const rows =
      expected === 0
        ? await this.#ask("take a change", begin, [migration, document])
        : await this.#ask("take a change", change, [migration, expected, document]);
    if (rows.length === 0) return "conflict";
    await this.#ask("clean up", clearInstances, [migration]).catch(() => undefined);
    return "changed";
  }

  async seal(migration: string, seals: readonly Seal[]): Promise<void> {
    const values = [migration, seals.map(({ scope }) => scope), seals.map(({ epoch }) => epoch)];
    await this.#ask("take seals", this.#statements.seal, values);
  }

  async seals(migration: string, scopes: readonly string[]): Promise<readonly number[]> {
    const rows = await this.#ask("read seals", this.#statements.seals, [migration, scopes]);
    const epochs = new Map(rows.map((row) => rowOf<Seal>(row)).map(({ scope, epoch }) => [scope, epoch]));
    return scopes.map((scope) => epochs.get(scope) ?? 0);
  }

  async clearSeals(migration: string): Promise<void> {
    await this.#ask("remove seals", this.#statements.clearSeals, [migration]);
  }

  async mark(migration: string, marks: readonly JournalMark[]): Promise<void> {
    const sources = marks.map(({ source }) => source);
    const ids = marks.map(({ id }) => id);
    const bits = marks.map(({ mark }) => MARK[mark]);
    await this.#ask("take marks", this.#statements.mark, [migration, sources, ids, bits]);
  }

  async counts(migration: string): Promise<readonly JournalCounts[]> {
    const rows = await this.#ask("count", this.#statements.counts, [migration]);
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
    const rows = await this.#ask("list ids", this.#statements.list[which], values);
    return (rows as readonly { readonly id: string }[]).map(({ id }) => id);
  }

  async fold(migration: string, olderThanMs: number, limit: number): Promise<number> {
    const [row] = await this.#ask("fold", this.#statements.fold, [migration, olderThanMs, limit]);
    return wholeNumber((row as { readonly folded: unknown }).folded);
  }

  async forget(migration: string): Promise<void> {
    await this.#ask("forget", this.#statements.forget, [migration]);
  }

  async #ask(action: string, text: string, values?: unknown[]): Promise<readonly unknown[]> {
    const call = async () => (await this.#database.query(text, values)).rows;
    const answer = await ask("migration state store", this.#clock, this.#timeoutMs, call);
    if ("value" in answer) return answer.value;
    throw failure(action, answer.error);
  }
}

import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions, LONGEST_MS } from "../../../core/checks.ts";
import { MessagingError, systemClock } from "../../../core/index.ts";
import { checkTableName } from "../../../sql/tables.ts";
import type {
  NewOutboxRow,
  OutboxClaim,
  OutboxClaimRequest,
  OutboxHealth,
  OutboxSettlement,
  OutboxStall,
  OutboxStore,
  QuarantinedRow,
} from "../store.ts";
import { SqliteConnection } from "./connection.ts";
import type { SqliteDatabase, SqliteStatement } from "./database.ts";
import { sqliteFailure } from "./failure.ts";
import { migrate } from "./migrations.ts";
import { outboxRow, quarantinedRow, type SqliteRow, valuesOf } from "./rows.ts";
import { DEFAULT_OUTBOX_TABLE, OUTBOX_VERSIONS } from "./schema.ts";
import { type Statements, statements } from "./statements.ts";

/** The options of {@link sqliteOutbox}. */
export interface SqliteOutboxOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_outbox`. */
  readonly table?: string;
  /** How long rows that were sent are kept, in milliseconds. Default 0: they are removed at once. */
  readonly keepSentMs?: number;
  /** Milliseconds that a call waits for the locks of others before it rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An outbox in a SQLite database. `Database` is what callers write with. */
export interface SqliteOutbox<Database extends SqliteDatabase> extends OutboxStore<Database> {
  /** Makes the table, or brings an older one up to date, unless it is so already; also if many processes do at once. */
  migrate(): Promise<void>;
  /** Closes the connection, after the calls that run. A second call does nothing. */
  close(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * An outbox in a SQLite database, for the processes of one machine. `open` opens a connection to it, in WAL mode; it is
 * the store's own, for relays: callers of `insert` write with theirs. Its `timeout` is set to 0: the store waits for the
 * locks of others itself, without standing in the way of the event loop.
 *
 * Transactions that write exclude each other in SQLite, so there are no late commits and no waits between keys. A list of
 * rows is inserted whole or not at all. Throws `invalid` for wrong options.
 */
export function sqliteOutbox<Database extends SqliteDatabase>(
  open: () => Database,
  options: SqliteOutboxOptions = {},
): SqliteOutbox<Database> {
  checkOptions("sqliteOutbox", options, ["table", "keepSentMs", "timeoutMs"]);
  if (typeof open !== "function") {
    throw new MessagingError("invalid", "sqliteOutbox takes a function that opens a connection, and options");
  }
  const { table = DEFAULT_OUTBOX_TABLE, keepSentMs = 0, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkTableName("sqliteOutbox { table }", table);
  checkInteger("sqliteOutbox { keepSentMs }", keepSentMs, 0, LONGEST_MS);
  checkInteger("sqliteOutbox { timeoutMs }", timeoutMs, 1, 2 ** 31 - 1);
  return new SqliteStore(open, table, keepSentMs, timeoutMs);
}

/** How many times what is asked for falls due in one claim at most, so that none takes long. */
const FALL_DUE = 4;

class SqliteStore<Database extends SqliteDatabase> implements SqliteOutbox<Database> {
  readonly name = "sqlite";
  readonly #connection: SqliteConnection<Database>;
  readonly #table: string;
  readonly #statements: Statements;
  readonly #keepSentMs: number;
  readonly #timeoutMs: number;
  /** Prepared once for each connection. */
  readonly #prepared = new WeakMap<SqliteDatabase, Map<string, SqliteStatement>>();

  constructor(open: () => Database, table: string, keepSentMs: number, timeoutMs: number) {
    this.#connection = new SqliteConnection(open, systemClock());
    this.#table = table;
    this.#statements = statements(table);
    this.#keepSentMs = keepSentMs;
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await migrate(this.#connection, this.#timeoutMs, this.#table, OUTBOX_VERSIONS);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  insert(transaction: Database, rows: readonly NewOutboxRow[]): void {
    if (rows.length === 0) return;
    try {
      // Also where the caller has no transaction, or passes over the failure of one row and commits.
      if (rows.length > 1) transaction.exec("SAVEPOINT anybroker_insert");
      try {
        for (const row of rows) this.#statement(transaction, "insert").run(...valuesOf(row));
      } catch (error) {
        if (rows.length > 1 && transaction.isTransaction) {
          transaction.exec("ROLLBACK TO anybroker_insert; RELEASE anybroker_insert");
        }
        throw error;
      }
      if (rows.length > 1) transaction.exec("RELEASE anybroker_insert");
    } catch (error) {
      throw sqliteFailure("take the rows of an outbox", error);
    }
  }

  claim({ limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    return this.#write("claim rows", (run) => {
      run("expire").run();
      run("fallDue").run(FALL_DUE * limit);
      const token = randomUUID();
      const claimed = run("claim").all(token, leaseMs, limit) as readonly SqliteRow[];
      if (claimed.length === 0) return undefined;
      // SQLite returns them in no order.
      return { token, rows: claimed.map(outboxRow).sort((one, other) => one.position - other.position) };
    });
  }

  renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    return this.#write("renew a claim", (run) => (run("renew").run(leaseMs, token).changes > 0 ? "renewed" : "lost"));
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    return this.#write("settle rows", (run) =>
      settlements.filter((one) => this.#settle(run, token, one) === 0).map(({ position }) => position),
    );
  }

  async listQuarantined({
    limit,
    after = Number.MIN_SAFE_INTEGER,
  }: {
    limit: number;
    after?: number;
  }): Promise<readonly QuarantinedRow[]> {
    const rows = await this.#read("list quarantined rows", (run) => run("list").all(after, limit));
    return (rows as readonly SqliteRow[]).map(quarantinedRow);
  }

  retryQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#write("retry quarantined rows", (run) =>
      positions.filter((position) => {
        if (run("retry").run(position).changes > 0) return true;
        return run("retryLast").run(position).changes > 0 && run("discard").run(position).changes > 0;
      }),
    );
  }

  discardQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#write("discard quarantined rows", (run) =>
      positions.filter((position) => run("discard").run(position).changes > 0),
    );
  }

  clean(limit: number): Promise<number> {
    return this.#write("clean up", (run) => Number(run("clean").run(limit).changes));
  }

  async health(): Promise<OutboxHealth> {
    const found = (await this.#read("tell its health", (run) => run("health").get())) as Health;
    return {
      unsent: found.unsent,
      oldestUnsentMs: Math.max(found.oldest ?? 0, 0),
      quarantined: found.quarantined,
      stalls: stallsOf(found),
    };
  }

  /** How many rows it changed. */
  #settle(run: Run, token: string, settlement: OutboxSettlement): number {
    const { position } = settlement;
    const change = (): { readonly changes: number | bigint } => {
      switch (settlement.outcome) {
        case "sent":
          return this.#keepSentMs > 0 ? run("keep").run(this.#keepSentMs, position) : run("remove").run(position);
        case "released":
          return run("release").run(position, token);
        case "failed": {
          const { error, retryInMs } = settlement;
          return run("fail").run(error.code, error.message, retryInMs, position, token);
        }
        case "quarantined": {
          const { error, holdsKey } = settlement;
          return run("quarantine").run(holdsKey ? 1 : 0, error.code, error.message, position, token);
        }
      }
    };
    return Number(change().changes);
  }

  #write<T>(what: string, action: (run: Run) => T): Promise<T> {
    return this.#connection.write(what, this.#timeoutMs, (database) =>
      action((name) => this.#statement(database, name)),
    );
  }

  #read<T>(what: string, action: (run: Run) => T): Promise<T> {
    return this.#connection.read(what, this.#timeoutMs, (database) =>
      action((name) => this.#statement(database, name)),
    );
  }

  #statement(database: SqliteDatabase, name: keyof Statements): SqliteStatement {
    const known = this.#prepared.get(database) ?? new Map<string, SqliteStatement>();
    this.#prepared.set(database, known);
    const statement = known.get(name) ?? database.prepare(this.#statements[name]);
    known.set(name, statement);
    return statement;
  }
}

type Run = (name: keyof Statements) => SqliteStatement;

interface Health {
  readonly unsent: number;
  readonly quarantined: number;
  readonly oldest: number | null;
  readonly expired: number | null;
  readonly held: number | null;
  readonly strange: number;
  readonly strange_ms: number | null;
}

function stallsOf({ expired, held, strange, strange_ms: strangeMs }: Health): OutboxStall[] {
  const stalls: OutboxStall[] = [];
  if (held !== null) {
    const message = "rows wait behind a quarantined row of their key: retry or discard it, see listQuarantined";
    stalls.push({ cause: "held-key", ageMs: Math.max(held, 0), message });
  }
  if (expired !== null && expired > 0) {
    const message = "a relay did not renew its claim, and none has taken it over: see whether any relay runs";
    stalls.push({ cause: "expired-claim", ageMs: expired, message });
  }
  if (strange > 0) {
    const message = `${strange} rows have a position beyond ${Number.MAX_SAFE_INTEGER} or a state that there is not, and no claim takes them: something else than the outbox wrote them; mend or delete them`;
    stalls.push({ cause: "unclaimable", ageMs: Math.max(strangeMs ?? 0, 0), message });
  }
  return stalls;
}

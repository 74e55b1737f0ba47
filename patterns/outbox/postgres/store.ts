import { checkInteger, checkOptions, LONGEST_MS } from "../../../core/checks.ts";
import { systemClock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { PostgresQueries, rowOf, wholeNumber } from "../../../sql/postgres.ts";
import type {
  NewOutboxRow,
  OutboxClaim,
  OutboxClaimRequest,
  OutboxHealth,
  OutboxSettlement,
  OutboxStore,
  QuarantinedRow,
} from "../store.ts";
import { Claims, ShardWatch } from "./claims.ts";
import {
  NotificationListener,
  outboxFailure,
  type PostgresOutboxDatabase,
  type PostgresTransaction,
  STORE,
} from "./connection.ts";
import { healthOf, healthStatement, type StoredHealth } from "./health.ts";
import { type OutboxTables, outboxSchema, outboxTables, type PostgresOutboxTableOptions, shardOf } from "./schema.ts";
import { quarantinedRow, type Statements, statements } from "./statements.ts";

const OPTIONS = ["table", "schema", "keepSentMs", "notify", "timeoutMs", "stallAfterMs"];
const WHERE = "postgresOutbox";

/** The options of {@link postgresOutbox}. */
export interface PostgresOutboxOptions extends PostgresOutboxTableOptions {
  /**
   * For how long sent rows are kept, in milliseconds, in a table that claims never read. Give all relays the same value: each
   * removes rows that are older than its own. Default 0: rows are removed when they are sent.
   */
  readonly keepSentMs?: number;
  /**
   * Whether writers wake relays by NOTIFY at their commit, and relays listen on a connection of the pool. Relays need not
   * wait for the next poll, but commits of writers run one after another. Default false.
   */
  readonly notify?: boolean;
  /** Milliseconds after which a call without an answer rejects with `unreachable`, except `insert`. Default 5,000. */
  readonly timeoutMs?: number;
  /** The age in milliseconds at which `health` reports open transactions and expired claims. Default 60,000. */
  readonly stallAfterMs?: number;
}

/** An outbox in a Postgres database. */
export interface PostgresOutbox extends OutboxStore<PostgresTransaction> {
  /**
   * Creates the tables, or brings older ones up to date, and restores deleted shards. Concurrent calls are safe. It needs the
   * right to create in the schema only if something changes. Rejects like the other calls, and with `not-found` for a
   * missing schema.
   */
  migrate(): Promise<void>;
}

/**
 * An outbox in a Postgres database, for `createOutbox` and `createRelay`. It uses the database server's time.
 *
 * Messages are written with the caller's connection. All other calls use `database`, each in its own transaction: give it a
 * pool, never a client with an open transaction. The store never ends the pool. A claim has to be settled and renewed by the
 * store object that made it. Throws `invalid` for wrong options.
 *
 * Claims lock shards, not rows; a hash divides keys into shards. So a row is written once and removed once, and no other
 * relay sees the next row of a key in flight.
 */
export function postgresOutbox(database: PostgresOutboxDatabase, options: PostgresOutboxOptions = {}): PostgresOutbox {
  checkOptions(WHERE, options, OPTIONS);
  const { keepSentMs = 0, notify = false, timeoutMs = 5_000, stallAfterMs = 60_000 } = options;
  const tables = outboxTables(WHERE, options);
  checkInteger(`${WHERE} { keepSentMs }`, keepSentMs, 0, LONGEST_MS);
  checkInteger(`${WHERE} { timeoutMs }`, timeoutMs, 1);
  checkInteger(`${WHERE} { stallAfterMs }`, stallAfterMs, 0, LONGEST_MS);
  if (typeof notify !== "boolean") throw new MessagingError("invalid", `${WHERE} { notify } takes true or false`);
  return new PostgresStore(database, tables, { keepSentMs, notify, timeoutMs, stallAfterMs });
}

type Settings = Required<Omit<PostgresOutboxOptions, "table" | "schema">>;

class PostgresStore implements PostgresOutbox {
  readonly name = "postgres";
  readonly #tables: OutboxTables;
  readonly #settings: Settings;
  readonly #statements: Statements;
  readonly #queries: PostgresQueries;
  readonly #watch: ShardWatch;
  readonly #claims: Claims;
  readonly #writer: Writer;
  readonly listen?: (wake: () => void) => Promise<() => Promise<void>>;

  constructor(database: PostgresOutboxDatabase, tables: OutboxTables, settings: Settings) {
    const clock = systemClock();
    this.#tables = tables;
    this.#settings = settings;
    this.#statements = statements(tables, settings.keepSentMs > 0);
    this.#queries = new PostgresQueries(database, STORE, settings.timeoutMs, outboxFailure);
    this.#watch = new ShardWatch(this.#queries, this.#statements, clock);
    this.#claims = new Claims(this.#queries, this.#statements, clock, this.#watch);
    this.#writer = new Writer(tables, settings.notify);
    if (settings.notify && database.connect !== undefined) {
      this.listen = async (wake) => {
        if (mostConnections(database) === 1) throw noConnectionLeft();
        const listener = new NotificationListener(database, tables.channel, wake);
        await listener.begin();
        return () => listener.end();
      };
    }
  }

  async migrate(): Promise<void> {
    await this.#queries.rows("create the tables", outboxSchema(this.#tables).migration());
  }

  insert(transaction: PostgresTransaction, rows: readonly NewOutboxRow[]): Promise<void> {
    return this.#writer.insert(transaction, rows);
  }

  claim(request: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    return this.#claims.claim(request);
  }

  renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    return this.#claims.renew(token, leaseMs);
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    return this.#claims.settle(token, settlements);
  }

  async listQuarantined({
    limit,
    after = Number.MIN_SAFE_INTEGER,
  }: {
    readonly limit: number;
    readonly after?: number;
  }): Promise<readonly QuarantinedRow[]> {
    const text = this.#statements.listQuarantined;
    const rows = await this.#queries.rows("list quarantined rows", text, [after, limit]);
    return rows.map((row) => quarantinedRow(rowOf(row)));
  }

  retryQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#change("retry quarantined rows", this.#statements.retryQuarantined, positions);
  }

  discardQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    return this.#change("discard quarantined rows", this.#statements.discardQuarantined, positions);
  }

  async #change(action: string, text: string, positions: readonly number[]): Promise<readonly number[]> {
    const rows = await this.#queries.rows<{ readonly position: unknown }>(action, text, [positions]);
    return rows.map(({ position }) => wholeNumber(position));
  }

  async clean(limit: number): Promise<number> {
    const { keepSentMs } = this.#settings;
    const [row] = await this.#queries.rows<{ readonly removed: unknown }>("clean up", this.#statements.clean, [
      limit,
      keepSentMs,
    ]);
    return wholeNumber(row?.removed);
  }

  async health(): Promise<OutboxHealth> {
    const [row] = await this.#queries.rows("read its health", healthStatement(this.#tables));
    const stored = rowOf<StoredHealth>(row);
    if (stored.lost_shards > 0) this.#watch.setDue();
    return healthOf(stored, this.#settings.stallAfterMs);
  }
}

/** Each value once, in order, and never a list, so that other clients can replace the placeholders. */
const COLUMNS: readonly (readonly [name: string, value: (placeholder: string) => string])[] = [
  ["shard", (at) => `${at}::smallint`],
  ["id", (at) => `${at}::text`],
  ["kind", (at) => `${at}::text`],
  ["destination", (at) => `${at}::text`],
  ["key", (at) => `${at}::text`],
  ["routing_key", (at) => `${at}::text`],
  ["headers", (at) => `${at}::json`],
  ["body", (at) => `${at}::bytea`],
  ["content_type", (at) => `${at}::text`],
  ["priority", (at) => `${at}::smallint`],
  ["due_at", (at) => `clock_timestamp() + ${at}::float8 * interval '1 millisecond'`],
  ["expires_at", (at) => `to_timestamp(${at}::float8 / 1000)`],
  ["ordered", (at) => `${at}::boolean`],
  ["discard_unroutable", (at) => `${at}::boolean`],
];
const NAMES = COLUMNS.map(([name]) => name).join(", ");
/** The protocol's limit of values per statement. */
const MOST_VALUES = 65_535;
const MOST_ROWS = Math.floor(MOST_VALUES / COLUMNS.length);

/** Writes rows with the caller's connection. */
class Writer {
  readonly #tables: OutboxTables;
  readonly #notify: boolean;
  /** The statement for one row, the usual case. */
  readonly #single: string;

  constructor(tables: OutboxTables, notify: boolean) {
    this.#tables = tables;
    this.#notify = notify;
    this.#single = this.#statement(1);
  }

  async insert(transaction: PostgresTransaction, rows: readonly NewOutboxRow[]): Promise<void> {
    checkTransaction(transaction);
    for (let first = 0; first < rows.length; first += MOST_ROWS) {
      const some = rows.slice(first, first + MOST_ROWS);
      const text = some.length === 1 ? this.#single : this.#statement(some.length);
      try {
        await transaction.query(text, some.flatMap(valuesOf));
      } catch (error) {
        throw outboxFailure("insert messages", error);
      }
    }
  }

  #statement(count: number): string {
    const width = COLUMNS.length;
    const row = (_: unknown, index: number): string =>
      `(${COLUMNS.map(([, value], column) => value(`$${index * width + column + 1}`)).join(", ")})`;
    const values = Array.from({ length: count }, row).join(",\n");
    const insert = `INSERT INTO ${this.#tables.outbox} (${NAMES}) VALUES\n${values}`;
    if (!this.#notify) return insert;
    return `WITH "#written" AS (\n${insert})\nSELECT pg_notify('${this.#tables.channel}', '')`;
  }
}

function valuesOf(row: NewOutboxRow): unknown[] {
  const { body, headers } = row;
  const isEmpty = Object.keys(headers).length === 0;
  return [
    shardOf(row),
    row.id,
    row.to.kind,
    row.to.name,
    row.key ?? null,
    row.routingKey ?? null,
    isEmpty ? null : JSON.stringify(headers),
    Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength),
    row.contentType,
    row.priority,
    row.delayMs === 0 ? null : row.delayMs,
    row.expiresAt ?? null,
    row.ordered,
    row.discardUnroutable,
  ];
}

/** Properties that show whether a connection has an open transaction. */
interface Connection extends PostgresTransaction {
  /** Only pools have it. */
  readonly idleCount?: unknown;
  /** `I` is idle. Newer clients of `pg` have it. */
  getTransactionStatus?(): unknown;
}

function checkTransaction(transaction: Connection): void {
  if (typeof transaction?.query !== "function" || "idleCount" in transaction) {
    throw new MessagingError(
      "invalid",
      "the outbox takes a client with an open transaction, or an executor { query(text, values) } for it, and no pool. Nothing was written",
    );
  }
  if (transaction.getTransactionStatus?.() === "I") {
    throw new MessagingError(
      "invalid",
      "the outbox got a client without an open transaction: await BEGIN first. Nothing was written",
    );
  }
}

/** How many connections a pool has at most, where it tells, as that of `pg`. */
function mostConnections(database: PostgresOutboxDatabase): unknown {
  const { options } = database as { readonly options?: { readonly max?: unknown } | null };
  return options?.max;
}

function noConnectionLeft(): MessagingError {
  return new MessagingError(
    "invalid",
    "the pool of the outbox has one connection, and listening for notifications would keep it: the relay polls. Give the pool at least two, or leave out notify",
  );
}

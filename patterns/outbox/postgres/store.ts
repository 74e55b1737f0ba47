import { checkInteger, checkOptions, LONGEST_MS } from "../../../core/checks.ts";
import { systemClock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { asTexts, PostgresQueries, rowOf, wholeNumber } from "../../../sql/postgres.ts";
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
import { Claims, quarantinedRow, ShardWatch, type Statements, statements } from "./claims.ts";
import {
  NotificationListener,
  outboxFailure,
  type PostgresOutboxDatabase,
  type PostgresTransaction,
  STORE,
} from "./connection.ts";
import {
  type OutboxTables,
  outboxSchema,
  outboxTables,
  type PostgresOutboxTableOptions,
  rowShards,
  shardOf,
} from "./schema.ts";

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

/** The most connections of a pool, if it shows it, as that of `pg` does. */
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

const MOST_COUNTED = 1_000_000;
const MAX = Number.MAX_SAFE_INTEGER;

/** The result of {@link healthStatement}. */
interface StoredHealth {
  readonly unsent: number;
  readonly quarantined: number;
  readonly oldest_ms: number | null;
  readonly transaction_ms: number | null;
  readonly held_keys: number;
  readonly held_ms: number | null;
  readonly expired_shards: number;
  readonly expired_ms: number | null;
  /** Shards that have rows and are missing. */
  readonly lost_shards: number;
  readonly lost_ms: number | null;
  /** Rows at positions that JavaScript cannot distinguish. */
  readonly far: number;
  readonly far_ms: number | null;
}

/** One statement for the whole health. The oldest row of each shard is the first of its index. */
function healthStatement({ outbox, shards }: OutboxTables): string {
  const age = (time: string): string => `(extract(epoch FROM statement_timestamp() - ${time}) * 1000)::float8`;
  const first = (column: string, condition: string, order: string): string =>
    `(SELECT o.${column} FROM ${outbox} o WHERE o.shard = l.shard AND ${condition} AND o.quarantined_at IS NULL ORDER BY o.shard, o.${order} LIMIT 1)`;
  const atOnce = first("created_at", "o.due_at IS NULL", "position");
  const timed = first("due_at", "o.due_at <= statement_timestamp()", "due_at");
  const oldest = `least(${atOnce}, ${timed})`;
  return asTexts(`
SELECT
  (SELECT count(*)::float8 FROM (SELECT FROM ${outbox} WHERE quarantined_at IS NULL LIMIT ${MOST_COUNTED}) counted) AS unsent,
  (SELECT count(*)::float8 FROM (SELECT FROM ${outbox} WHERE quarantined_at IS NOT NULL LIMIT ${MOST_COUNTED}) counted) AS quarantined,
  (SELECT ${age(`min(${oldest})`)} FROM ${rowShards(outbox)} l) AS oldest_ms,
  (SELECT max(${age("xact_start")}) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS transaction_ms,
  held.keys AS held_keys, held.ms AS held_ms, expired.shards AS expired_shards, expired.ms AS expired_ms,
  lost.shards AS lost_shards, lost.ms AS lost_ms, far.rows AS far, far.ms AS far_ms
FROM
  (SELECT count(*)::float8 AS keys, ${age("min(quarantined_at)")} AS ms FROM ${outbox} h
    WHERE h.quarantined_at IS NOT NULL AND h.holds AND EXISTS (SELECT FROM ${outbox} o
      WHERE o.shard = h.shard AND o.due_at IS NULL AND o.quarantined_at IS NULL AND o.position > h.position
        AND o.destination = h.destination AND o.key = h.key AND o.kind = h.kind)) held,
  (SELECT count(*)::float8 AS shards, ${age("min(ends_at)")} AS ms FROM ${shards} l
    WHERE token IS NOT NULL AND ends_at < statement_timestamp()
      AND EXISTS (SELECT FROM ${outbox} o WHERE o.shard = l.shard AND o.quarantined_at IS NULL
        AND (o.due_at IS NULL OR o.due_at <= statement_timestamp()))) expired,
  (SELECT count(*)::float8 AS shards, ${age("min(first)")} AS ms FROM (
    SELECT ${oldest} AS first FROM ${rowShards(outbox)} l WHERE NOT EXISTS (SELECT FROM ${shards} t WHERE t.shard = l.shard)
  ) without WHERE first IS NOT NULL) lost,
  (SELECT count(*)::float8 AS rows, ${age("min(created_at)")} AS ms FROM (
    SELECT created_at FROM ${outbox} WHERE position > ${MAX} OR position < -${MAX} LIMIT ${MOST_COUNTED}) counted) far`);
}

/** Open transactions and expired claims are stalls once they are `stallAfterMs` old. */
function healthOf(stored: StoredHealth, stallAfterMs: number): OutboxHealth {
  const { transaction_ms: transaction, held_ms: held, expired_ms: expired } = stored;
  const candidates: readonly (readonly [
    cause: OutboxStall["cause"],
    age: number | null,
    least: number,
    message: string,
  ])[] = [
    [
      "open-transaction",
      transaction,
      stallAfterMs,
      "a transaction of this database is open: the rows it wrote are invisible, and vacuum cannot remove rows deleted since. Find it in pg_stat_activity by xact_start, and end it",
    ],
    [
      "held-key",
      held,
      0,
      `${stored.held_keys} quarantined rows block others of their keys: retry or discard them, see listQuarantined`,
    ],
    [
      "expired-claim",
      expired,
      stallAfterMs,
      `the claims of ${stored.expired_shards} shards have expired and no relay took them over: start a relay`,
    ],
    [
      "unclaimable",
      stored.lost_shards > 0 ? (stored.lost_ms ?? 0) : null,
      0,
      `${stored.lost_shards} shards have rows and are missing in the table that ends with _shards, so no claim takes those rows: a relay restores them if its role may INSERT there, and migrate() restores the store's own`,
    ],
    [
      "unclaimable",
      stored.far > 0 ? (stored.far_ms ?? 0) : null,
      0,
      `${stored.far} rows have a position beyond ${MAX}, and no claim or list takes them: give them new positions, UPDATE … SET position = DEFAULT WHERE position > ${MAX} OR position < -${MAX}`,
    ],
  ];
  return {
    unsent: stored.unsent,
    oldestUnsentMs: Math.max(stored.oldest_ms ?? 0, 0),
    quarantined: stored.quarantined,
    stalls: candidates.flatMap(([cause, age, least, message]) =>
      age !== null && age >= least ? [{ cause, ageMs: Math.max(age, 0), message }] : [],
    ),
  };
}

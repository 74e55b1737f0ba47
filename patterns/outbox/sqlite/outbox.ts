import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions, LONGEST_MS } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/errors.ts";
import { checkTableName } from "../../../sql/schema.ts";
import {
  SQLITE_NOW as NOW,
  type OwnedSqliteDatabase,
  type SqliteStatement,
  type SqliteValue,
  sqliteFailure,
} from "../../../sql/sqlite.ts";
import { SqliteConnection } from "../../../sql/sqlite-connection.ts";
import {
  type NewOutboxRow,
  type OutboxClaim,
  type OutboxClaimRequest,
  type OutboxHealth,
  type OutboxRow,
  type OutboxSettlement,
  type OutboxStall,
  type OutboxStore,
  outboxRowOf,
  type QuarantinedRow,
} from "../store.ts";
import { DEFAULT_OUTBOX_TABLE, outboxSchema, STATE } from "./schema.ts";

/** Its name in messages. */
const STORE = "outbox store";
const MOST_COUNTED = 1_000_000;
const SAFE = Number.MAX_SAFE_INTEGER;

/** The options of {@link sqliteOutbox}. */
export interface SqliteOutboxOptions {
  /** The table's name: letters, digits and `_`, no digit first, 50 at most. Default `anybroker_outbox`. */
  readonly table?: string;
  /** For how long sent rows are kept, in milliseconds. Default 0: they are removed at once. */
  readonly keepSentMs?: number;
  /** Milliseconds that a call waits for a lock before it rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

/** An outbox in a SQLite database. `Database` is the connection that callers write with. */
export interface SqliteOutbox<Database extends OwnedSqliteDatabase> extends OutboxStore<Database>, AsyncDisposable {
  /** Creates the table, or brings an older one up to date. Concurrent calls are safe. */
  migrate(): Promise<void>;
  /** Closes the connection, after the running calls. A second call does nothing. */
  close(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;
/** A claim makes at most this multiple of its limit fall due, to stay short. */
const FALL_DUE = 4;

/**
 * An outbox in a SQLite database, for the processes of one machine. `open` opens a connection in WAL mode, for relays;
 * callers of `insert` write with theirs. The store sets `timeout` to 0 and waits for locks itself, without blocking the
 * event loop.
 *
 * SQLite has one writer at a time, so no commit is late and keys do not wait for each other. A list of rows is inserted
 * whole or not at all. Throws `invalid` for wrong options.
 */
export function sqliteOutbox<Database extends OwnedSqliteDatabase>(
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

class SqliteStore<Database extends OwnedSqliteDatabase> implements SqliteOutbox<Database> {
  readonly name = "sqlite";
  readonly #connection: SqliteConnection<Database>;
  readonly #table: string;
  readonly #statements: Statements;
  readonly #keepSentMs: number;
  readonly #timeoutMs: number;
  /** Prepared once per connection. */
  readonly #prepared = new WeakMap<OwnedSqliteDatabase, Map<string, SqliteStatement>>();

  constructor(open: () => Database, table: string, keepSentMs: number, timeoutMs: number) {
    this.#connection = new SqliteConnection(STORE, open);
    this.#table = table;
    this.#statements = statements(table);
    this.#keepSentMs = keepSentMs;
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await outboxSchema().migrate(this.#connection, this.#timeoutMs, this.#table);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  insert(transaction: Database, rows: readonly NewOutboxRow[]): void {
    if (rows.length === 0) return;
    try {
      // All or nothing, even if the caller has no transaction, or ignores a failed row and commits.
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
      throw sqliteFailure(STORE, "insert rows", error);
    }
  }

  claim({ limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    return this.#write("claim rows", (run) => {
      run("expire").run();
      run("fallDue").run(FALL_DUE * limit);
      const token = randomUUID();
      const claimed = run("claim").all(token, leaseMs, limit) as readonly SqliteRow[];
      if (claimed.length === 0) return undefined;
      // RETURNING has no order.
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
    const found = (await this.#read("read its health", (run) => run("health").get())) as Health;
    return {
      unsent: found.unsent,
      oldestUnsentMs: Math.max(found.oldest ?? 0, 0),
      quarantined: found.quarantined,
      stalls: stallsOf(found),
    };
  }

  /** Returns how many rows changed. */
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

  #statement(database: OwnedSqliteDatabase, name: keyof Statements): SqliteStatement {
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
  readonly odd: number;
  readonly odd_ms: number | null;
}

function stallsOf({ expired, held, odd, odd_ms: oddMs }: Health): OutboxStall[] {
  const stalls: OutboxStall[] = [];
  if (held !== null) {
    const message = "rows wait behind a quarantined row of their key: retry or discard it, see listQuarantined";
    stalls.push({ cause: "held-key", ageMs: Math.max(held, 0), message });
  }
  if (expired !== null && expired > 0) {
    const message = "a relay did not renew its claim, and no other relay took it over: check that a relay runs";
    stalls.push({ cause: "expired-claim", ageMs: expired, message });
  }
  if (odd > 0) {
    const message = `${odd} rows have a position beyond ${Number.MAX_SAFE_INTEGER} or an unknown state, and no claim takes them: another program wrote them; repair or delete them`;
    stalls.push({ cause: "unclaimable", ageMs: Math.max(oddMs ?? 0, 0), message });
  }
  return stalls;
}

/** The statements of the outbox. Their transactions run one after another. */
type Statements = ReturnType<typeof statements>;

/** The statements for a table, given its checked name. */
function statements(name: string) {
  const table = `"${name}"`;
  const { ready, claimed, waiting, holding, quarantined, sent } = STATE;
  const mine = `WHERE position = ? AND token = ? AND state = ${claimed}`;
  // Beyond the largest integer SQLite makes a real number, which the column refuses.
  const failed = `attempts = min(attempts, ${SAFE}) + 1, token = NULL, error_code = ?, error_message = ?`;
  const copied = `message_id, kind, destination, key, routing_key, headers, body, content_type, priority, ordered,
    discard_unroutable, created_at, expires_at`;
  // A number that JavaScript cannot hold would fail the whole statement, so it is read as a text.
  const number = (column: string): string =>
    `iif(${column} IS NULL OR ${column} BETWEEN -${SAFE} AND ${SAFE}, ${column}, CAST(${column} AS TEXT)) AS ${column}`;
  // JavaScript cannot settle rows with positions beyond.
  const near = `position BETWEEN -${SAFE} AND ${SAFE}`;
  const whole = (value: string): string => `max(-${SAFE}, min(${SAFE}, ${value}))`;
  const read = `position, message_id, kind, destination, key, routing_key, headers, body, content_type,
    ${["ordered", "discard_unroutable", "priority", "created_at", "expires_at", "attempts"].map(number).join(", ")}`;
  // This reads the ends of two indexes.
  const odd = `position < -${SAFE} OR position > ${SAFE} OR state < ${ready} OR state > ${sent}`;
  return {
    insert: `
INSERT INTO ${table} (message_id, kind, destination, key, routing_key, headers, body, content_type, priority, ordered,
  discard_unroutable, expires_at, created_at, due_at, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ${NOW}, ${NOW} + ?, ?)`,
    // An expired claim loses all of its rows at once, so that a late renewal finds none. A lease that ends too late, or that
    // has no token, is no lease.
    expire: `UPDATE ${table} SET state = ${ready}, token = NULL WHERE state = ${claimed} AND (token IS NULL OR token IN (
  SELECT token FROM ${table} WHERE state = ${claimed}
  AND (ends_at IS NULL OR ends_at <= ${NOW} OR ends_at > ${NOW} + ${LONGEST_MS})))`,
    // Without statistics SQLite prefers the index by state, and scans rows that are not due.
    fallDue: `UPDATE ${table} SET state = ${ready} WHERE position IN (
  SELECT position FROM ${table} INDEXED BY "${name}_waiting" WHERE state = ${waiting} AND due_at <= ${NOW} ORDER BY due_at LIMIT ?)`,
    claim: `
UPDATE ${table} SET state = ${claimed}, token = ?, ends_at = ${NOW} + ? WHERE position IN (
  SELECT position FROM ${table} AS row WHERE state = ${ready} AND ${near} AND (key IS NULL OR NOT EXISTS (
    SELECT 1 FROM ${table} AS other
    WHERE other.key IS NOT NULL AND other.state IN (${claimed}, ${waiting}, ${holding})
    AND other.destination = row.destination AND other.key = row.key AND other.kind = row.kind
    AND (other.state = ${claimed} OR (other.ordered = 1 AND other.position < row.position))
  )) ORDER BY position LIMIT ?
) RETURNING ${read}`,
    renew: `UPDATE ${table} SET ends_at = ${NOW} + ? WHERE token = ? AND state = ${claimed}`,
    remove: `DELETE FROM ${table} WHERE position = ? AND state <> ${sent}`,
    keep: `UPDATE ${table} SET state = ${sent}, token = NULL, ends_at = ${NOW} + ? WHERE position = ? AND state <> ${sent}`,
    release: `UPDATE ${table} SET state = ${ready}, token = NULL ${mine}`,
    fail: `UPDATE ${table} SET state = ${waiting}, ${failed}, due_at = ${NOW} + ? ${mine}`,
    // In a quarantined row, ends_at is the time of the quarantine.
    quarantine: `
UPDATE ${table} SET state = iif(? = 1 AND ordered = 1, ${holding}, ${quarantined}), ${failed}, ends_at = ${NOW} ${mine}`,
    list: `
SELECT ${read}, state, ${number("ends_at")}, error_code, error_message FROM ${table}
WHERE state IN (${holding}, ${quarantined}) AND ${near} AND position > ? ORDER BY position LIMIT ?`,
    // Its key waited, so it keeps its position.
    retry: `
UPDATE ${table} SET state = ${ready}, attempts = 0, due_at = ${NOW} WHERE position = ? AND state = ${holding}`,
    // Its key went on, so it goes last, under a new position.
    retryLast: `
INSERT INTO ${table} (${copied}, due_at, state)
SELECT ${copied}, ${NOW}, ${ready} FROM ${table} WHERE position = ? AND state = ${quarantined}`,
    discard: `DELETE FROM ${table} WHERE position = ? AND state IN (${holding}, ${quarantined})`,
    clean: `DELETE FROM ${table} WHERE position IN (
  SELECT position FROM ${table} INDEXED BY "${name}_sent" WHERE state = ${sent} AND ends_at <= ${NOW} ORDER BY ends_at LIMIT ?)`,
    health: `
SELECT
  (SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE state IN (${ready}, ${claimed}, ${waiting}) LIMIT ${MOST_COUNTED})) AS unsent,
  (SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE state IN (${holding}, ${quarantined}) LIMIT ${MOST_COUNTED})) AS quarantined,
  ${whole(`${NOW} - (SELECT min(due_at) FROM ${table} WHERE state IN (${ready}, ${claimed}, ${waiting}) AND due_at <= ${NOW})`)}
    AS oldest,
  ${whole(`${NOW} - (SELECT min(ends_at) FROM ${table} WHERE state = ${claimed})`)} AS expired,
  (SELECT count(*) FROM ${table} WHERE ${odd}) AS odd,
  ${whole(`${NOW} - (SELECT min(created_at) FROM ${table} WHERE ${odd})`)} AS odd_ms,
  ${whole(`${NOW} - (SELECT min(ends_at) FROM ${table} AS row WHERE state = ${holding} AND EXISTS (
    SELECT 1 FROM ${table} AS other WHERE other.state = ${ready} AND other.destination = row.destination
    AND other.key = row.key AND other.kind = row.kind AND other.position > row.position))`)} AS held`,
  } as const;
}

/** A row as SQLite returns it. */
interface SqliteRow {
  readonly position: number;
  readonly state: number;
  readonly message_id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  readonly headers: string;
  readonly body: Uint8Array;
  readonly content_type: string;
  readonly priority: number | string;
  readonly ordered: number | string;
  readonly discard_unroutable: number | string;
  readonly created_at: number | string;
  readonly expires_at: number | string | null;
  readonly attempts: number | string;
  readonly ends_at: number | string | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
}

/** The values of the statement `insert`. */
function valuesOf(row: NewOutboxRow): SqliteValue[] {
  return [
    row.id,
    row.to.kind,
    row.to.name,
    row.key ?? null,
    row.routingKey ?? null,
    JSON.stringify(row.headers),
    row.body,
    row.contentType,
    row.priority,
    row.ordered ? 1 : 0,
    row.discardUnroutable ? 1 : 0,
    row.expiresAt ?? null,
    row.delayMs,
    row.delayMs > 0 ? STATE.waiting : STATE.ready,
  ];
}

function outboxRow(row: SqliteRow): OutboxRow {
  const { position, kind, destination, key, body, priority } = row;
  return outboxRowOf(
    {
      position,
      attempts: typeof row.attempts === "number" ? row.attempts : 0,
      id: row.message_id,
      kind,
      destination,
      key,
      routingKey: row.routing_key,
      headers: jsonOf(row.headers),
      body: body instanceof Uint8Array ? body : undefined,
      contentType: row.content_type,
      priority,
      expiresAt: row.expires_at,
      ordered: flagOf(row.ordered),
      discardUnroutable: flagOf(row.discard_unroutable),
      createdAt: row.created_at,
    },
    "another program wrote it",
  );
}

/** Undefined for anything but 0 and 1. */
function flagOf(value: number | string): boolean | undefined {
  return value === 1 || (value === 0 ? false : undefined);
}

/** Undefined for invalid JSON. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function quarantinedRow(row: SqliteRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error_message ?? "" },
    quarantinedAt: typeof row.ends_at === "number" ? row.ends_at : 0,
    holdsKey: row.state === STATE.holding,
  };
}

import { randomUUID } from "node:crypto";
import { LONGEST_MS } from "../../../core/checks.ts";
import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { asTexts, type PostgresQueries, rowOf, wholeNumber } from "../../../sql/postgres.ts";
import {
  type OutboxClaim,
  type OutboxClaimRequest,
  type OutboxRow,
  type OutboxSettlement,
  outboxRowOf,
  type QuarantinedRow,
} from "../store.ts";
import { type OutboxTables, rowShards, SHARDS } from "./schema.ts";

/** The most shards per claim, so that several claims fit. */
const SHARDS_PER_CLAIM = 16;
/** How often claims check for missing shards, in milliseconds. */
const SHARD_CHECK_MS = 10_000;

/**
 * Claims rows by shards. A claim takes shards with a lease, and then reads their rows. It writes nothing to a row before the
 * settlement, and no two claims see one key. The settlement of its last claimed row frees a shard.
 */
export class Claims {
  readonly #queries: PostgresQueries;
  readonly #statements: Statements;
  readonly #clock: Clock;
  readonly #watch: ShardWatch;
  readonly #claims = new Map<string, ClaimedShards>();

  constructor(queries: PostgresQueries, statements: Statements, clock: Clock, watch: ShardWatch) {
    this.#queries = queries;
    this.#statements = statements;
    this.#clock = clock;
    this.#watch = watch;
  }

  async claim({ relay, limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    this.#forgetExpired();
    const token = randomUUID();
    const endsAt = this.#clock.monotonic() + leaseMs;
    const most = Math.min(limit, SHARDS_PER_CLAIM);
    let shards = await this.#takeShards(token, relay, leaseMs, most);
    if (shards.length === 0 && this.#watch.isDue && (await this.#watch.check())) {
      shards = await this.#takeShards(token, relay, leaseMs, most);
    }
    if (shards.length === 0) return undefined;
    let rows: readonly StoredRow[];
    try {
      const each = Math.max(Math.floor(limit / shards.length), 1);
      const answers = await this.#queries.rows("read a claim", this.#statements.readShards, [token, shards, each]);
      rows = answers.map((answer) => settleable(rowOf(answer)));
    } catch (error) {
      this.#free(token, shards).catch(() => undefined);
      throw error;
    }
    // Existing shards do not wait for missing ones.
    if (this.#watch.isDue) void this.#watch.check().catch(() => undefined);
    const held = new ClaimedShards(rows, endsAt);
    const taken = new Set(rows.map(({ shard }) => shard));
    const empty = shards.filter((shard) => !taken.has(shard));
    // Their rows were held back after the choice of the shards.
    if (empty.length > 0) await this.#free(token, empty);
    if (rows.length === 0) return undefined;
    this.#claims.set(token, held);
    return { token, rows: rows.map(outboxRow) };
  }

  async #takeShards(token: string, relay: string, leaseMs: number, most: number): Promise<readonly number[]> {
    const late = (shards: readonly Shard[]): void => {
      this.#free(
        token,
        shards.map(({ shard }) => wholeNumber(shard)),
      ).catch(() => undefined);
    };
    const values = [token, relay, leaseMs, most];
    const shards = await this.#queries.rows<Shard>("take a claim", this.#statements.takeShards, values, late);
    return shards.map(({ shard }) => wholeNumber(shard));
  }

  async #free(token: string, shards: readonly number[]): Promise<void> {
    if (shards.length > 0) await this.#queries.rows("free a claim", this.#statements.settleSent, [token, [], shards]);
  }

  async renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const held = this.#claims.get(token);
    if (held === undefined) return "lost";
    const endsAt = this.#clock.monotonic() + leaseMs;
    const before = held.count;
    const shards = await this.#queries.rows<Shard>("renew a claim", this.#statements.renew, [token, leaseMs]);
    held.endsAt = endsAt;
    // A settlement may have freed some meanwhile.
    return shards.length >= Math.min(before, held.count) ? "renewed" : "lost";
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    if (settlements.length === 0) return Promise.resolve([]);
    const held = this.#claims.get(token);
    if (held === undefined) return this.#settle(token, settlements, undefined);
    const settled = held.last.then(() => this.#settle(token, settlements, held));
    held.last = settled.catch(() => undefined);
    return settled;
  }

  async #settle(
    token: string,
    settlements: readonly OutboxSettlement[],
    held: ClaimedShards | undefined,
  ): Promise<readonly number[]> {
    const settled = new Set<number>();
    // The first settlement of each row counts; `sent` also for rows that the claim has lost.
    const known = settlements.filter(({ outcome, position }) => {
      if (settled.has(position) || (outcome !== "sent" && held?.unsettled(position) === undefined)) return false;
      settled.add(position);
      return true;
    });
    const positions = [...settled];
    const freed = held?.freedBy(positions) ?? [];
    const rows = await (known.every(({ outcome }) => outcome === "sent")
      ? this.#queries.rows<Settled>("settle", this.#statements.settleSent, [token, positions, freed])
      : this.#queries.rows<Settled>("settle", this.#statements.settle, settleValues(token, known, freed, held)));
    const changed = new Set(rows.map(({ position }) => wholeNumber(position)));
    held?.settled(positions);
    if (held?.count === 0) this.#claims.delete(token);
    return settlements.map(({ position }) => position).filter((position) => !changed.has(position));
  }

  /** Forgets unsettled claims whose lease has ended. */
  #forgetExpired(): void {
    const now = this.#clock.monotonic();
    for (const [token, { endsAt }] of this.#claims) if (endsAt < now) this.#claims.delete(token);
  }
}

function settleValues(
  token: string,
  settlements: readonly OutboxSettlement[],
  shards: readonly number[],
  held?: ClaimedShards,
): unknown[] {
  const positions = (wanted: OutboxSettlement["outcome"]): number[] =>
    settlements.filter(({ outcome }) => outcome === wanted).map(({ position }) => position);
  const failed = settlements.filter((one) => one.outcome === "failed" || one.outcome === "quarantined");
  return [
    token,
    positions("sent"),
    shards,
    failed.map(({ position }) => position),
    failed.map((one) => (one.outcome === "failed" ? one.retryInMs : 0)),
    failed.map(({ error }) => error.code),
    failed.map(({ error }) => error.message),
    failed.map(({ outcome }) => outcome === "quarantined"),
    failed.map((one) => one.outcome === "failed" || one.holdsKey),
    failed.map(({ position }) => held?.unsettled(position)?.attempts ?? 0),
    positions("released"),
  ];
}

/** A text, as all numbers. */
interface Shard {
  readonly shard: unknown;
}

/** A row that the statement settled. */
interface Settled {
  readonly position: unknown;
}

type Row = Pick<StoredRow, "position" | "shard" | "attempts">;

/** The shards that a claim still holds, with their unsettled rows. */
class ClaimedShards {
  readonly #rows = new Map<number, Set<number>>();
  readonly #unsettled = new Map<number, Row>();
  /** When the lease has ended for sure, by this process' clock. */
  endsAt: number;
  /** Settlements run one after another: the last one of a shard frees it. */
  last: Promise<unknown> = Promise.resolve();

  constructor(rows: readonly Row[], endsAt: number) {
    this.endsAt = endsAt;
    for (const row of rows) {
      const { position, shard } = row;
      this.#unsettled.set(position, row);
      const others = this.#rows.get(shard);
      if (others === undefined) this.#rows.set(shard, new Set([position]));
      else others.add(position);
    }
  }

  unsettled(position: number): Row | undefined {
    return this.#unsettled.get(position);
  }

  get count(): number {
    return this.#rows.size;
  }

  /** The shards whose unsettled rows are all among these. */
  freedBy(positions: readonly number[]): readonly number[] {
    const settled = new Map<number, number>();
    for (const position of new Set(positions)) {
      const shard = this.#unsettled.get(position)?.shard;
      if (shard !== undefined) settled.set(shard, (settled.get(shard) ?? 0) + 1);
    }
    return [...settled].filter(([shard, count]) => this.#rows.get(shard)?.size === count).map(([shard]) => shard);
  }

  settled(positions: readonly number[]): void {
    for (const position of positions) {
      const shard = this.#unsettled.get(position)?.shard;
      if (shard === undefined) continue;
      this.#unsettled.delete(position);
      const others = this.#rows.get(shard);
      others?.delete(position);
      if (others?.size === 0) this.#rows.delete(shard);
    }
  }
}

/** Restores deleted shards, and adds those of rows that others wrote: rows without a shard are never claimed. */
export class ShardWatch {
  readonly #queries: PostgresQueries;
  readonly #statements: Statements;
  readonly #clock: Clock;
  #dueAt = 0;

  constructor(queries: PostgresQueries, statements: Statements, clock: Clock) {
    this.#queries = queries;
    this.#statements = statements;
    this.#clock = clock;
  }

  get isDue(): boolean {
    return this.#clock.monotonic() >= this.#dueAt;
  }

  /** Makes the next claim check. */
  setDue(): void {
    this.#dueAt = 0;
  }

  /**
   * Resolves with whether it created any. Rejects with `conflict` if all shards are missing and the role may not create
   * them; `health` reports single missing ones.
   */
  async check(): Promise<boolean> {
    const { missingShards, makeShards } = this.#statements;
    this.#dueAt = this.#clock.monotonic() + SHARD_CHECK_MS;
    const missing = await this.#queries.rows("check its shards", missingShards);
    if (missing.length === 0) return false;
    try {
      await this.#queries.rows("restore its shards", makeShards);
      return true;
    } catch (cause) {
      if (!isMessagingError(cause, "unauthorized")) throw cause;
      if (missing.length < SHARDS) return false;
      this.setDue();
      throw new MessagingError(
        "conflict",
        "the outbox store's Postgres gives no claims: the table that ends with _shards is empty, and the role may not fill it. Call migrate() as the tables' owner, or grant the role INSERT on it",
        { cause },
      );
    }
  }
}

/** Why a row can differ from what was written. */
const CHANGED = "the client or a proxy changes the server's answers";

/** A row as the statements return it, in JSON. */
interface StoredRow {
  readonly position: number;
  readonly shard: number;
  readonly id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  /** Hexadecimal digits. */
  readonly body: string;
  /** The length of the body, as the server counts it. */
  readonly bytes: number;
  readonly content_type: string;
  readonly priority: number;
  readonly ordered: boolean;
  readonly discard_unroutable: boolean;
  readonly attempts: number;
  readonly expires_at: number | null;
  readonly created_at: number;
}

/** A quarantined row as the statements return it. */
interface StoredQuarantinedRow extends StoredRow {
  readonly error_code: string | null;
  readonly error: string | null;
  readonly holds: boolean;
  readonly quarantined_at: number;
}

/** Refuses a row that could not be settled later. Throws `invalid`. */
function settleable(row: StoredRow): StoredRow {
  const { position, shard, attempts } = row;
  if ([position, shard, attempts].every(Number.isSafeInteger)) return row;
  throw new MessagingError("invalid", `a row of the outbox does not come back as it was written: ${CHANGED}`);
}

function outboxRow(row: StoredRow): OutboxRow {
  const { position, attempts, id, kind, destination, key, headers, priority, ordered } = row;
  return outboxRowOf(
    {
      position,
      attempts,
      id,
      kind,
      destination,
      key,
      routingKey: row.routing_key,
      headers,
      body: bodyOf(row),
      contentType: row.content_type,
      priority,
      expiresAt: row.expires_at,
      ordered,
      discardUnroutable: row.discard_unroutable,
      createdAt: row.created_at,
    },
    CHANGED,
  );
}

/** Undefined for a changed body: `Buffer.from` stops at the first character that is no hexadecimal digit. */
function bodyOf({ body, bytes }: StoredRow): Uint8Array | undefined {
  const read = Buffer.from(String(body), "hex");
  return read.length === bytes && body.length === 2 * bytes ? read : undefined;
}

export function quarantinedRow(row: StoredQuarantinedRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error ?? "" },
    quarantinedAt: row.quarantined_at,
    holdsKey: row.holds,
  };
}

export type Statements = ReturnType<typeof statements>;

/** An expression for the time `ms` milliseconds from the start of the statement. */
const later = (ms: string): string => `statement_timestamp() + ${ms}::float8 * interval '1 millisecond'`;
const milliseconds = (time: string): string => `(extract(epoch FROM ${time}) * 1000)::float8`;

/** The columns of an {@link OutboxRow}, from a row called `o`. */
const ROW = `o.position::float8 AS position, o.shard, o.id, o.kind, o.destination, o.key, o.routing_key,
  o.headers, encode(o.body, 'hex') AS body, octet_length(o.body) AS bytes, o.content_type, o.priority, o.ordered, o.discard_unroutable, o.attempts,
  round(${milliseconds("o.expires_at")}) AS expires_at, ${milliseconds("o.created_at")} AS created_at`;

/** JavaScript cannot distinguish larger positions, and could not settle their rows. */
const SAFE = `o.position BETWEEN -${Number.MAX_SAFE_INTEGER} AND ${Number.MAX_SAFE_INTEGER}`;

/** Resets a row to its state at the insert. */
const ANEW = "quarantined_at = NULL, holds = false, attempts = 0, due_at = NULL, error_code = NULL, error = NULL";

const MOVED = `position, shard, id, kind, destination, key, routing_key, headers, body, content_type, priority, due_at,
  expires_at, ordered, discard_unroutable, attempts, error_code, error, created_at`;

/**
 * The statements of the store; `keep` says whether sent rows are kept. Each is correct at READ COMMITTED, Postgres' default,
 * with any concurrency. Names inside a statement begin with #, which no table's name has, so that they hide no table.
 */
export function statements({ outbox, shards, sent }: OutboxTables, keep: boolean) {
  // A failed row blocks the later rows of its key.
  const free = `NOT (o.ordered AND EXISTS (SELECT FROM ${outbox} h
    WHERE h.holds AND h.destination = o.destination AND h.key = o.key AND h.kind = o.kind AND h.position < o.position))`;
  const atOnce = (shard: string): string =>
    `o.shard = ${shard} AND o.due_at IS NULL AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const gone = `"#gone" AS (
  DELETE FROM ${outbox} WHERE position = ANY ($2::bigint[]) RETURNING ${keep ? MOVED : "position"}
)${keep ? `, "#kept" AS (INSERT INTO ${sent} (${MOVED}) SELECT ${MOVED} FROM "#gone")` : ""}`;
  const freed = `"#freed" AS (
  UPDATE ${shards} SET token = NULL, relay = NULL, ends_at = '-infinity'
  WHERE token = $1::uuid AND shard = ANY ($3::smallint[])
)`;
  const timed = (shard: string): string =>
    `o.shard = ${shard} AND o.due_at <= statement_timestamp() AND o.quarantined_at IS NULL AND ${SAFE} AND ${free}`;
  const missing = `SELECT s.shard FROM ${rowShards(outbox)} s WHERE NOT EXISTS (SELECT FROM ${shards} l WHERE l.shard = s.shard)`;
  return {
    // Takes free shards that have claimable rows, those with the oldest first. Another statement reads the rows, because this
    // snapshot may be older than the end of the previous claim. OFFSET 0 stops the planner from searching the oldest twice.
    // A lease that ends too late is no lease.
    takeShards: `
WITH "#free" AS (
  SELECT l.shard FROM ${shards} l CROSS JOIN LATERAL (SELECT least(
    (SELECT o.position FROM ${outbox} o WHERE ${timed("l.shard")} ORDER BY o.due_at LIMIT 1),
    (SELECT o.position FROM ${outbox} o WHERE ${atOnce("l.shard")} ORDER BY o.shard, o.position LIMIT 1)
  ) AS first OFFSET 0) oldest
  WHERE (l.ends_at <= statement_timestamp() OR l.ends_at > ${later(String(LONGEST_MS))}) AND oldest.first IS NOT NULL
  ORDER BY oldest.first LIMIT $4::integer FOR NO KEY UPDATE OF l SKIP LOCKED
)
UPDATE ${shards} l SET token = $1::uuid, relay = $2::text, ends_at = ${later("$3")}
FROM "#free" f WHERE l.shard = f.shard
RETURNING l.shard::text AS shard`,
    // Shards that should exist, and are missing.
    missingShards: `SELECT shard::text AS shard FROM (${missing}) missing`,
    makeShards: `INSERT INTO ${shards} (shard) ${missing} ON CONFLICT DO NOTHING`,
    // Up to $3 rows per shard, of which up to half were delayed or failed before: neither kind starves the other.
    readShards: asTexts(`
SELECT ${ROW} FROM ${shards} l CROSS JOIN LATERAL (
  (SELECT o.* FROM ${outbox} o WHERE ${timed("l.shard")} ORDER BY o.due_at LIMIT ($3::integer + 1) / 2)
  UNION ALL
  (SELECT o.* FROM ${outbox} o WHERE ${atOnce("l.shard")} ORDER BY o.shard, o.position LIMIT $3::integer)
  LIMIT $3::integer
) o
WHERE l.token = $1::uuid AND l.shard = ANY ($2::smallint[])
ORDER BY o.position`),
    renew: `UPDATE ${shards} SET ends_at = ${later("$2")} WHERE token = $1::uuid RETURNING shard`,
    // The lock on the shards makes the settlement atomic for a relay that takes them over. The comparison of attempts keeps
    // a repeated call, whose answer was lost, from counting a failure twice.
    settle: `
WITH "#mine" AS MATERIALIZED (
  SELECT shard FROM ${shards} WHERE token = $1::uuid FOR NO KEY UPDATE
), ${gone}, "#failed" AS (
  UPDATE ${outbox} o SET attempts = least(o.attempts, 2147483646) + 1, error_code = f.code, error = f.message,
    due_at = CASE WHEN f.quarantined THEN NULL ELSE ${later("f.retry_ms")} END,
    quarantined_at = CASE WHEN f.quarantined THEN clock_timestamp() END,
    holds = o.ordered AND f.holds
  FROM "#mine" m, unnest($4::bigint[], $5::float8[], $6::text[], $7::text[], $8::boolean[], $9::boolean[], $10::integer[])
    AS f (position, retry_ms, code, message, quarantined, holds, attempts)
  WHERE o.position = f.position AND o.shard = m.shard AND o.attempts = f.attempts AND o.quarantined_at IS NULL
  RETURNING o.position
), ${freed}
SELECT position::text FROM "#gone"
UNION ALL SELECT position::text FROM "#failed"
UNION ALL SELECT o.position::text FROM ${outbox} o JOIN "#mine" m ON m.shard = o.shard
  WHERE o.position = ANY ($11::bigint[])`,
    // The usual case, and less than half as expensive to plan. It needs no lock: sent rows are removed even if another relay
    // holds the shard by now.
    settleSent: `
WITH ${gone}, ${freed}
SELECT position::text FROM "#gone"`,
    listQuarantined: asTexts(`
SELECT ${ROW}, o.error_code, o.error, o.holds, ${milliseconds("o.quarantined_at")} AS quarantined_at
FROM ${outbox} o WHERE o.quarantined_at IS NOT NULL AND ${SAFE} AND o.position > $1::bigint ORDER BY o.position LIMIT $2::integer`),
    // A row that let its key pass goes last, under a new position.
    retryQuarantined: `
WITH "#chosen" AS MATERIALIZED (
  SELECT position, ordered AND NOT holds AS passed FROM ${outbox}
  WHERE position = ANY ($1::bigint[]) AND quarantined_at IS NOT NULL FOR UPDATE
), "#first" AS (
  UPDATE ${outbox} o SET ${ANEW} FROM "#chosen" c WHERE o.position = c.position AND NOT c.passed RETURNING c.position
), "#last" AS (
  UPDATE ${outbox} o SET ${ANEW}, position = DEFAULT FROM "#chosen" c WHERE o.position = c.position AND c.passed
  RETURNING c.position
)
SELECT position::text FROM "#first" UNION ALL SELECT position::text FROM "#last"`,
    discardQuarantined: `
DELETE FROM ${outbox} WHERE position = ANY ($1::bigint[]) AND quarantined_at IS NOT NULL RETURNING position::text`,
    // The array makes Postgres choose the rows once. Rows that another cleaner locked are skipped.
    clean: `
WITH "#removed" AS (
  DELETE FROM ${sent} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ${sent} WHERE sent_at < ${later("-1 * $2")} ORDER BY sent_at LIMIT $1::integer FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::text AS removed FROM "#removed"`,
  };
}

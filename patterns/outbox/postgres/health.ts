import { asTexts } from "../../../sql/postgres.ts";
import type { OutboxHealth, OutboxStall } from "../store.ts";
import { type OutboxTables, rowShards } from "./schema.ts";

const MOST_COUNTED = 1_000_000;
const MAX = Number.MAX_SAFE_INTEGER;

/** The result of {@link healthStatement}. */
export interface StoredHealth {
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
  /** Rows at positions that JavaScript cannot tell apart. */
  readonly far: number;
  readonly far_ms: number | null;
}

/** One statement for the whole health. The oldest row of each shard is the first of its index. */
export function healthStatement({ outbox, shards }: OutboxTables): string {
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
export function healthOf(stored: StoredHealth, stallAfterMs: number): OutboxHealth {
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

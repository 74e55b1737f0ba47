import { crc32 } from "node:zlib";
import type { NewOutboxRow } from "../store.ts";

/**
 * Into how many shards keys are divided. A shard is what one claim locks, so keys that share one wait for each other while it
 * is in flight. Written down in the tables: another number takes a migration.
 */
export const SHARDS = 64;

/** The most shards that one claim takes, so that several can be under way. */
export const SHARDS_PER_CLAIM = 16;

/** The shard of a message: always the same for one key of one destination; without a key, any. */
export function shardOf({ to, key, id }: NewOutboxRow): number {
  return crc32(key === undefined ? id : `${to.kind} ${to.name} ${key}`) % SHARDS;
}

/**
 * A subselect of the shards that are to be there: all that the store gives rows, and those of rows that others wrote. Four
 * looks at the ends of two indexes.
 */
export function rowShards(outbox: string): string {
  const foreign = ["o.shard < 0", `o.shard >= ${SHARDS}`].flatMap((range) =>
    ["IS NULL", "IS NOT NULL"].map(
      (due) => `
  UNION SELECT o.shard FROM ${outbox} o WHERE ${range} AND o.due_at ${due} AND o.quarantined_at IS NULL`,
    ),
  );
  return `(SELECT generate_series(0, ${SHARDS - 1})::smallint AS shard${foreign.join("")})`;
}

import { crc32 } from "node:zlib";
import type { NewOutboxRow } from "../store.ts";

/**
 * Into how many lanes keys are divided. A lane is what one claim locks, so keys that share one wait for each other while it
 * is in flight. Written down in the tables: another number takes a migration.
 */
export const LANES = 64;

/** The most lanes that one claim takes, so that several can be under way. */
export const LANES_PER_CLAIM = 16;

/** The lane of a message: always the same for one key of one destination; without a key, any. */
export function laneOf({ to, key, id }: NewOutboxRow): number {
  return crc32(key === undefined ? id : `${to.kind} ${to.name} ${key}`) % LANES;
}

/**
 * A subselect of the lanes that are to be there: all that the store gives rows, and those of rows that others wrote. Four
 * looks at the ends of two indexes.
 */
export function rowLanes(outbox: string): string {
  const foreign = ["o.lane < 0", `o.lane >= ${LANES}`].flatMap((range) =>
    ["IS NULL", "IS NOT NULL"].map(
      (due) => `
  UNION SELECT o.lane FROM ${outbox} o WHERE ${range} AND o.due_at ${due} AND o.quarantined_at IS NULL`,
    ),
  );
  return `(SELECT generate_series(0, ${LANES - 1})::smallint AS lane${foreign.join("")})`;
}

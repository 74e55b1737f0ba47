import { LONGEST_MS } from "../../../core/checks.ts";
import { STATE } from "./schema.ts";

/** SQLite's own time of day, in milliseconds; the same all through one statement. */
export const NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

const COUNTED = 1_000_000;
const SAFE = Number.MAX_SAFE_INTEGER;

/** The statements of the outbox, by what they are for. They run in transactions that exclude each other. */
export type Statements = ReturnType<typeof statements>;

/** The statements for a table, given its checked name. */
export function statements(name: string) {
  const table = `"${name}"`;
  const { ready, claimed, waiting, holding, quarantined, sent } = STATE;
  const mine = `WHERE position = ? AND token = ? AND state = ${claimed}`;
  const failed = "attempts = attempts + 1, token = NULL, error_code = ?, error_message = ?";
  const copied = `message_id, kind, destination, key, routing_key, headers, body, content_type, priority, ordered,
    discard_unroutable, created_at, expires_at`;
  // A number that JavaScript cannot hold fails the whole statement: it is read as a text, which is no number.
  const number = (column: string): string =>
    `iif(${column} IS NULL OR ${column} BETWEEN -${SAFE} AND ${SAFE}, ${column}, CAST(${column} AS TEXT)) AS ${column}`;
  // Nobody could say what became of a row beyond.
  const near = `position BETWEEN -${SAFE} AND ${SAFE}`;
  const whole = (value: string): string => `max(-${SAFE}, min(${SAFE}, ${value}))`;
  const read = `position, message_id, kind, destination, key, routing_key, headers, body, content_type, ordered,
    discard_unroutable, ${["priority", "created_at", "expires_at", "attempts"].map(number).join(", ")}`;
  // Four looks at the ends of indexes.
  const strange = `position < -${SAFE} OR position > ${SAFE} OR state < ${ready} OR state > ${sent}`;
  return {
    insert: `
INSERT INTO ${table} (message_id, kind, destination, key, routing_key, headers, body, content_type, priority, ordered,
  discard_unroutable, expires_at, created_at, due_at, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ${NOW}, ${NOW} + ?, ?)`,
    // A claim whose lease is over gives up all of its rows at once: whoever renews it then finds none.
    // One that ends later than any can, or of nobody, is none.
    expire: `UPDATE ${table} SET state = ${ready}, token = NULL WHERE state = ${claimed} AND (token IS NULL OR token IN (
  SELECT token FROM ${table} WHERE state = ${claimed}
  AND (ends_at IS NULL OR ends_at <= ${NOW} OR ends_at > ${NOW} + ${LONGEST_MS})))`,
    // Named, since without statistics SQLite prefers the index by state, and passes all that is not due.
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
    // Of a quarantined row it is the time when it was quarantined that counts.
    quarantine: `
UPDATE ${table} SET state = iif(? = 1 AND ordered = 1, ${holding}, ${quarantined}), ${failed}, ends_at = ${NOW} ${mine}`,
    list: `
SELECT ${read}, state, ${number("ends_at")}, error_code, error_message FROM ${table}
WHERE state IN (${holding}, ${quarantined}) AND ${near} AND position > ? ORDER BY position LIMIT ?`,
    // Its place was kept.
    retry: `
UPDATE ${table} SET state = ${ready}, attempts = 0, due_at = ${NOW} WHERE position = ? AND state = ${holding}`,
    // It is the last of its key now.
    retryLast: `
INSERT INTO ${table} (${copied}, due_at, state)
SELECT ${copied}, ${NOW}, ${ready} FROM ${table} WHERE position = ? AND state = ${quarantined}`,
    discard: `DELETE FROM ${table} WHERE position = ? AND state IN (${holding}, ${quarantined})`,
    clean: `DELETE FROM ${table} WHERE position IN (
  SELECT position FROM ${table} INDEXED BY "${name}_sent" WHERE state = ${sent} AND ends_at <= ${NOW} ORDER BY ends_at LIMIT ?)`,
    health: `
SELECT
  (SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE state IN (${ready}, ${claimed}, ${waiting}) LIMIT ${COUNTED})) AS unsent,
  (SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE state IN (${holding}, ${quarantined}) LIMIT ${COUNTED})) AS quarantined,
  ${whole(`${NOW} - (SELECT min(due_at) FROM ${table} WHERE state IN (${ready}, ${claimed}, ${waiting}) AND due_at <= ${NOW})`)}
    AS oldest,
  ${whole(`${NOW} - (SELECT min(ends_at) FROM ${table} WHERE state = ${claimed})`)} AS expired,
  (SELECT count(*) FROM ${table} WHERE ${strange}) AS strange,
  ${whole(`${NOW} - (SELECT min(created_at) FROM ${table} WHERE ${strange})`)} AS strange_ms,
  ${whole(`${NOW} - (SELECT min(ends_at) FROM ${table} AS row WHERE state = ${holding} AND EXISTS (
    SELECT 1 FROM ${table} AS other WHERE other.state = ${ready} AND other.destination = row.destination
    AND other.key = row.key AND other.kind = row.kind AND other.position > row.position))`)} AS held`,
  } as const;
}

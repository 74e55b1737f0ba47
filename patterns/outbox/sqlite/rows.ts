import type { NewOutboxRow, OutboxRow, QuarantinedRow } from "../store.ts";
import { outboxRowOf } from "../stored-row.ts";
import type { SqliteValue } from "./database.ts";
import { STATE } from "./schema.ts";

/** A row as SQLite gives it. */
export interface SqliteRow {
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
  readonly ordered: number;
  readonly discard_unroutable: number;
  readonly created_at: number | string;
  readonly expires_at: number | string | null;
  readonly attempts: number | string;
  readonly ends_at: number | string | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
}

/** The values of the statement `insert`. */
export function valuesOf(row: NewOutboxRow): SqliteValue[] {
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

export function outboxRow(row: SqliteRow): OutboxRow {
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
      ordered: row.ordered === 1,
      discardUnroutable: row.discard_unroutable === 1,
      createdAt: row.created_at,
    },
    "something else than the outbox wrote it",
  );
}

/** Undefined for what is no JSON. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function quarantinedRow(row: SqliteRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error_message ?? "" },
    quarantinedAt: typeof row.ends_at === "number" ? row.ends_at : 0,
    holdsKey: row.state === STATE.holding,
  };
}

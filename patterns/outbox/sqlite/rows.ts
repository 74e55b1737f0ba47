import type { Headers } from "../../../core/index.ts";
import type { NewOutboxRow, OutboxRow, QuarantinedRow } from "../store.ts";
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
  readonly priority: number;
  readonly ordered: number;
  readonly discard_unroutable: number;
  readonly created_at: number;
  readonly expires_at: number | null;
  readonly attempts: number;
  readonly ends_at: number | null;
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
  return {
    position: row.position,
    id: row.message_id,
    to: { kind: row.kind, name: row.destination },
    key: row.key ?? undefined,
    routingKey: row.routing_key ?? undefined,
    headers: Object.assign(Object.create(null), JSON.parse(row.headers)) as Headers,
    body: row.body,
    contentType: row.content_type,
    priority: row.priority,
    expiresAt: row.expires_at ?? undefined,
    ordered: row.ordered === 1,
    discardUnroutable: row.discard_unroutable === 1,
    attempts: row.attempts,
    createdAt: row.created_at,
  };
}

export function quarantinedRow(row: SqliteRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error_message ?? "" },
    quarantinedAt: row.ends_at ?? 0,
    holdsKey: row.state === STATE.holding,
  };
}

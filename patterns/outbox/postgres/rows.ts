import type { Headers } from "../../../core/index.ts";
import type { OutboxRow, QuarantinedRow } from "../store.ts";

/** A row as the statements tell it. */
export interface StoredRow {
  readonly position: number;
  readonly lane: number;
  readonly id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  /** Parsed already by most clients. */
  readonly headers: string | Readonly<Record<string, string>> | null;
  readonly body: Uint8Array;
  readonly content_type: string;
  readonly priority: number;
  readonly ordered: boolean;
  readonly discard_unroutable: boolean;
  readonly attempts: number;
  readonly expires_at: number | null;
  readonly created_at: number;
}

/** A quarantined row as the statements tell it. */
export interface StoredQuarantinedRow extends StoredRow {
  readonly error_code: string | null;
  readonly error: string | null;
  readonly holds: boolean;
  readonly quarantined_at: number;
}

export function outboxRow(row: StoredRow): OutboxRow {
  return {
    position: row.position,
    id: row.id,
    to: { kind: row.kind, name: row.destination },
    key: row.key ?? undefined,
    routingKey: row.routing_key ?? undefined,
    headers: headersOf(row.headers),
    body: row.body,
    contentType: row.content_type,
    priority: row.priority,
    expiresAt: row.expires_at ?? undefined,
    ordered: row.ordered,
    discardUnroutable: row.discard_unroutable,
    attempts: row.attempts,
    createdAt: row.created_at,
  };
}

export function quarantinedRow(row: StoredQuarantinedRow): QuarantinedRow {
  return {
    ...outboxRow(row),
    error: { code: row.error_code ?? "", message: row.error ?? "" },
    quarantinedAt: row.quarantined_at,
    holdsKey: row.holds,
  };
}

function headersOf(stored: StoredRow["headers"]): Headers {
  const own: Record<string, string> = Object.create(null);
  const given = typeof stored === "string" ? (JSON.parse(stored) as Record<string, string>) : (stored ?? {});
  for (const name of Object.keys(given)) own[name] = given[name] as string;
  return own;
}

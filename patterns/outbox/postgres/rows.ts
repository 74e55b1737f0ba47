import { MessagingError } from "../../../core/index.ts";
import type { OutboxRow, QuarantinedRow } from "../store.ts";
import { outboxRowOf } from "../stored-row.ts";

/** A row as the statements tell it, in JSON. */
export interface StoredRow {
  readonly position: number;
  readonly lane: number;
  readonly id: string;
  readonly kind: "queue" | "topic";
  readonly destination: string;
  readonly key: string | null;
  readonly routing_key: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  /** In hexadecimal digits. */
  readonly body: string;
  /** How many bytes the body has, as the server counts them. */
  readonly bytes: number;
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

/** Refuses a row of which nobody could say later what became of it; throws `invalid`. */
export function settleable(row: StoredRow): StoredRow {
  const { position, lane, attempts } = row;
  if ([position, lane, attempts].every(Number.isSafeInteger)) return row;
  throw new MessagingError("invalid", `a row of the outbox is not what was written: ${CHANGED}`);
}

const CHANGED = "whatever stands between the store and the server changes its answers";

export function outboxRow(row: StoredRow): OutboxRow {
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

/** A body that is no hexadecimal digits throughout ends with the first that is none. */
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

import { type Headers, MessagingError } from "../../../core/index.ts";
import type { OutboxRow, QuarantinedRow } from "../store.ts";

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
  const body = Buffer.from(String(row.body), "hex");
  const { position, attempts } = row;
  if (!isAsWritten(row, body)) return unreadableRow(row);
  return {
    position,
    id: row.id,
    to: { kind: row.kind, name: row.destination },
    key: row.key ?? undefined,
    routingKey: row.routing_key ?? undefined,
    headers: headersOf(row.headers),
    body,
    contentType: row.content_type,
    priority: row.priority,
    expiresAt: row.expires_at ?? undefined,
    ordered: row.ordered,
    discardUnroutable: row.discard_unroutable,
    attempts,
    createdAt: row.created_at,
  };
}

/** A row that is not to be sent. It is held in its key, so far as that can be read, like any other that is quarantined. */
function unreadableRow(row: StoredRow): OutboxRow {
  const { position, attempts, id, kind, destination, key, ordered } = row;
  const what = `row ${position} of the outbox does not come back as it was written`;
  return {
    position,
    id: isText(id) ? id : "",
    to: { kind: kind === "topic" ? "topic" : "queue", name: isText(destination) ? destination : "" },
    key: isText(key) ? key : undefined,
    routingKey: undefined,
    headers: headersOf(null),
    body: new Uint8Array(),
    contentType: "",
    priority: 0,
    expiresAt: undefined,
    ordered: ordered === true,
    discardUnroutable: false,
    attempts,
    createdAt: 0,
    unreadable: new MessagingError("invalid", `${what}: ${CHANGED}. It was not sent; mend that, and retry the row`),
  };
}

/** A body that is no hexadecimal digits throughout ends with the first that is none. */
function isAsWritten(row: StoredRow, body: Uint8Array): boolean {
  const { id, kind, destination, key, routing_key, headers, bytes, content_type, priority, expires_at } = row;
  return (
    body.length === bytes &&
    row.body.length === 2 * bytes &&
    [id, destination, content_type].every(isText) &&
    [key, routing_key].every((text) => text === null || isText(text)) &&
    (kind === "queue" || kind === "topic") &&
    (headers === null || (typeof headers === "object" && Object.values(headers).every(isText))) &&
    [priority, row.created_at, expires_at ?? 0].every(Number.isFinite) &&
    [row.ordered, row.discard_unroutable].every((flag) => typeof flag === "boolean")
  );
}

function isText(value: unknown): value is string {
  return typeof value === "string";
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
  return Object.assign(Object.create(null), stored);
}

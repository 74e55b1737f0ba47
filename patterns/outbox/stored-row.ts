import { type Headers, MessagingError } from "../../core/index.ts";
import type { OutboxRow } from "./store.ts";

/** What a store read of a row. All but its place is to be checked: others may have written it, or changed it on its way. */
export interface ReadRow {
  readonly position: number;
  readonly attempts: number;
  readonly id: unknown;
  readonly kind: unknown;
  readonly destination: unknown;
  readonly key: unknown;
  readonly routingKey: unknown;
  /** An object of texts; null for none. */
  readonly headers: unknown;
  /** Undefined where it is not what was written. */
  readonly body: Uint8Array | undefined;
  readonly contentType: unknown;
  readonly priority: unknown;
  readonly expiresAt: unknown;
  readonly ordered: unknown;
  readonly discardUnroutable: unknown;
  readonly createdAt: unknown;
}

/**
 * A row as a relay takes it. One that cannot be what was written is `unreadable`, for the reason `why`: it is quarantined, and
 * holds its key as far as that can be read.
 */
export function outboxRowOf(row: ReadRow, why: string): OutboxRow {
  const { position, attempts, body } = row;
  const place = {
    position,
    attempts,
    id: isText(row.id) ? row.id : "",
    to: { kind: row.kind === "topic" ? "topic" : "queue", name: isText(row.destination) ? row.destination : "" },
    key: isText(row.key) ? row.key : undefined,
    ordered: row.ordered === true,
  } as const;
  const headers = headersOf(row.headers);
  if (body === undefined || headers === undefined || !isWhole(row)) {
    const what = `row ${position} of the outbox does not come back as it was written`;
    return {
      ...place,
      routingKey: undefined,
      headers: Object.create(null),
      body: new Uint8Array(),
      contentType: "",
      priority: 0,
      expiresAt: undefined,
      discardUnroutable: false,
      createdAt: 0,
      unreadable: new MessagingError("invalid", `${what}: ${why}. It was not sent; mend that, and retry the row`),
    };
  }
  return {
    ...place,
    routingKey: isText(row.routingKey) ? row.routingKey : undefined,
    headers,
    body,
    contentType: row.contentType as string,
    priority: row.priority as number,
    expiresAt: (row.expiresAt as number | null) ?? undefined,
    discardUnroutable: row.discardUnroutable === true,
    createdAt: row.createdAt as number,
  };
}

function isWhole({ id, kind, destination, key, routingKey, contentType, ...row }: ReadRow): boolean {
  return (
    [id, destination, contentType].every(isText) &&
    [key, routingKey].every((text) => text === null || isText(text)) &&
    (kind === "queue" || kind === "topic") &&
    Number.isSafeInteger(row.priority) &&
    (row.priority as number) >= 0 &&
    [row.createdAt, row.expiresAt ?? 0].every(Number.isFinite) &&
    [row.ordered, row.discardUnroutable].every((flag) => typeof flag === "boolean")
  );
}

/** Undefined for what holds more than texts. */
function headersOf(read: unknown): Headers | undefined {
  if (read !== null && (typeof read !== "object" || Array.isArray(read) || !Object.values(read).every(isText))) {
    return undefined;
  }
  return Object.assign(Object.create(null), read);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

import type { QueueAddress, TopicAddress } from "../../core/address.ts";
import type { MessageHeaders } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";

/**
 * Stores messages between the transaction that wrote them and the broker. `Transaction` is the caller's transaction, to write
 * in; `OutboxStore` alone is any store, for a relay.
 *
 * **Nothing is lost.** A row exists from the commit of its insert until it is settled as `sent`, or discarded by its position.
 * Relays read rows, never a cursor over ids: a row that commits after rows with higher positions is claimed like any other.
 *
 * **Order of a key.** A key is a destination with a key. Its rows are claimed by position, and at most one claim at a time
 * has rows of a key, of any relay. An `ordered` row that failed, or was quarantined with `holdsKey`, keeps later rows of its
 * key from being claimed until it is settled. Keys do not wait for each other, but a store may lock several keys together
 * while one of them is in flight.
 *
 * **A lower row that commits late.** Concurrent transactions that write to one key are ordered by their commits only. If the
 * higher position commits first and is claimed, it goes first; the lower one follows when it is visible and no claim holds
 * the key. If both are visible, the position decides. Within one transaction the order is that of the calls. Transactions
 * that exclude each other, for example by a lock taken before the first send, go in their order.
 *
 * **At least once.** A relay that dies, or is blocked for longer than its lease, leaves rows that it sent and did not settle:
 * they are sent again under the same ids. A relay that wakes after its lease may send once more. The first copies of a key
 * are in order all the same.
 *
 * Calls may be concurrent, from any number of processes. Time is the database's. A call rejects with a `MessagingError` in
 * bounded time: `unreachable` if it can be repeated, `unauthorized`, `not-found`, `conflict`. Errors have no body, header or
 * key.
 */
export interface OutboxStore<Transaction = never> {
  /** The store's name in messages, in lower case: `postgres`. */
  readonly name: string;

  /**
   * Writes rows in the caller's transaction, in order, in one statement if the database's limits allow. On a synchronous
   * database they are written before it returns, and it throws errors. An empty list writes nothing.
   */
  insert(transaction: Transaction, rows: readonly NewOutboxRow[]): void | Promise<void>;

  /**
   * Claims due rows for `leaseMs` milliseconds: at most `limit`, possibly fewer than exist. Rows of one key come by position.
   * Undefined if no row is due, or other claims have them.
   */
  claim(request: OutboxClaimRequest): Promise<OutboxClaim | undefined>;

  /**
   * Makes a claim end `leaseMs` from now. `lost` if another claim may have taken some of its rows: then the relay should begin
   * no more sends of its rows.
   */
  renew(token: string, leaseMs: number): Promise<"renewed" | "lost">;

  /**
   * Settles rows of a claim: all of them, or some now and others later. A key is free for other claims once all of its rows in
   * the claim are settled. The claim ends with its last row.
   *
   * `sent` counts also after the lease, since the broker has the message. Other outcomes count only while the claim holds the
   * row. Settling a row again does nothing, so that a call without an answer can be repeated. Resolves with the positions that
   * were not changed. If such a row is claimed again, the relay concludes that the database ignores the settlement.
   */
  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]>;

  /** The quarantined rows with positions after `after`, by position; at most `limit`. */
  listQuarantined(request: { readonly limit: number; readonly after?: number }): Promise<readonly QuarantinedRow[]>;

  /**
   * Makes quarantined rows claimable at once, with zero attempts. An `ordered` row that let later rows of its key pass goes
   * last, under a new position. Resolves with the positions that are no longer quarantined.
   */
  retryQuarantined(positions: readonly number[]): Promise<readonly number[]>;

  /** Removes quarantined rows unsent; their keys continue. Resolves with the removed positions. */
  discardQuarantined(positions: readonly number[]): Promise<readonly number[]>;

  /**
   * Removes at most `limit` sent rows whose retention has ended. Resolves with their number; always 0 for a store that keeps
   * no sent rows.
   */
  clean(limit: number): Promise<number>;

  /** The health of the outbox. */
  health(): Promise<OutboxHealth>;

  /**
   * Calls `wake` when rows may have been committed, as a hint only: calls may be missing, late or too many. It reconnects.
   * Resolves when it listens, or has begun to try. The result ends it; a second call of that does nothing. Undefined if the
   * store cannot listen, or is configured not to.
   */
  readonly listen?: (wake: () => void) => Promise<() => Promise<void>>;
}

/** A message to write to an outbox. */
export interface NewOutboxRow {
  /** The message's id: a UUIDv7, or the caller's. Not unique: one id may go to several destinations. */
  readonly id: string;
  readonly to: QueueAddress | TopicAddress;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** The caller's headers, including the trace context, and the engine's, which begin with `anybroker-`. */
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly priority: number;
  /** Milliseconds until it is due; 0 for at once, and always if `ordered`. */
  readonly delayMs: number;
  /**
   * Its expiry, in milliseconds since 1970, as in its headers. A relay sends expired messages with a time to live of 1 ms, so
   * that they are dead-lettered and not lost.
   */
  readonly expiresAt: number | undefined;
  /** Whether its destination is ordered and it has a key: then it holds its key when it fails. */
  readonly ordered: boolean;
  /** Whether a message without a matching subscription counts as sent. */
  readonly discardUnroutable: boolean;
}

/** A message that a relay reads. */
export interface OutboxRow extends Omit<NewOutboxRow, "delayMs"> {
  /** Unique in the outbox. It ascends with inserts, not with commits. */
  readonly position: number;
  /** The number of settlements as `failed`. */
  readonly attempts: number;
  /** Milliseconds since 1970, by the database's clock. */
  readonly createdAt: number;
  /** Set if the row was changed: then it is quarantined and not sent, and its other properties are void. */
  readonly unreadable?: MessagingError | undefined;
}

/** The request of a relay for rows. */
export interface OutboxClaimRequest {
  /** The name of the relay, for people. Not unique. */
  readonly relay: string;
  /** The most rows; at least 1. */
  readonly limit: number;
  /** The lease in milliseconds. After it, unless renewed, other relays may claim the rows. */
  readonly leaseMs: number;
}

/** Rows that a relay holds until the lease ends. */
export interface OutboxClaim {
  /** Unique; proves the claim. */
  readonly token: string;
  /** At least one. */
  readonly rows: readonly OutboxRow[];
}

/**
 * The outcome of a claimed row:
 * - `sent`: the broker confirmed it.
 * - `released`: it was not tried. It is claimable at once, and no attempt counts.
 * - `failed`: one more attempt, and not claimable for `retryInMs`. An `ordered` row holds its key until then.
 * - `quarantined`: one more attempt, and not claimable until it is retried. With `holdsKey` an `ordered` row holds its
 *   key.
 */
export type OutboxSettlement = { readonly position: number } & (
  | { readonly outcome: "sent" }
  | { readonly outcome: "released" }
  | { readonly outcome: "failed"; readonly error: OutboxError; readonly retryInMs: number }
  | { readonly outcome: "quarantined"; readonly error: OutboxError; readonly holdsKey: boolean }
);

/** Why a row could not be sent. It has no body, key or credential. */
export interface OutboxError {
  /** The code of the `MessagingError`. */
  readonly code: string;
  readonly message: string;
}

/** A row that could not be sent. */
export interface QuarantinedRow extends OutboxRow {
  readonly error: OutboxError;
  /** Milliseconds since 1970. */
  readonly quarantinedAt: number;
  readonly holdsKey: boolean;
}

/** The health of an outbox. */
export interface OutboxHealth {
  /** Unsent rows, including delayed rows and rows in flight, without quarantined rows. Counted up to 1,000,000. */
  readonly unsent: number;
  /** For how long the oldest due row has been due, in milliseconds; 0 without due rows. */
  readonly oldestUnsentMs: number;
  /** Counted up to 1,000,000. */
  readonly quarantined: number;
  /** Known problems that may block the outbox. */
  readonly stalls: readonly OutboxStall[];
}

/**
 * A problem that may block an outbox:
 * - `open-transaction`: a transaction is open for long. Its rows are invisible, and the database cannot vacuum rows that were
 *   removed since.
 * - `held-key`: rows wait behind a quarantined row of their key.
 * - `expired-claim`: a relay did not renew its claim, and no other relay took it over.
 * - `unclaimable`: no claim takes these rows, because they or the tables were changed. Other rows continue.
 */
export interface OutboxStall {
  readonly cause: "open-transaction" | "held-key" | "expired-claim" | "unclaimable";
  /** Its age in milliseconds. */
  readonly ageMs: number;
  /** What it is and what to do, for people. It has no key, body or query. */
  readonly message: string;
}

/** A row as a store read it. Other programs may have written or changed everything except the position. */
interface ReadRow {
  readonly position: number;
  readonly attempts: number;
  readonly id: unknown;
  readonly kind: unknown;
  readonly destination: unknown;
  readonly key: unknown;
  readonly routingKey: unknown;
  /** An object of texts, or null. */
  readonly headers: unknown;
  /** Undefined if it was changed. */
  readonly body: Uint8Array | undefined;
  readonly contentType: unknown;
  readonly priority: unknown;
  readonly expiresAt: unknown;
  readonly ordered: unknown;
  readonly discardUnroutable: unknown;
  readonly createdAt: unknown;
}

/**
 * Makes the row that a relay gets. A row that was changed is `unreadable`, for the reason `why`. The relay quarantines it, and
 * it holds its key if the key is readable.
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
      unreadable: new MessagingError(
        "invalid",
        `${what}: ${why}. It was not sent: repair the cause, and retry the row`,
      ),
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

/** Undefined for values other than texts. */
function headersOf(read: unknown): MessageHeaders | undefined {
  if (read !== null && (typeof read !== "object" || Array.isArray(read) || !Object.values(read).every(isText))) {
    return undefined;
  }
  return Object.assign(Object.create(null), read);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

import { type MessageHeaders, MessagingError, type QueueAddress, type TopicAddress } from "../../core/index.ts";

/** What a store read of a row. All but its place is to be checked: others may have written it, or changed it on its way. */
interface ReadRow {
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
function headersOf(read: unknown): MessageHeaders | undefined {
  if (read !== null && (typeof read !== "object" || Array.isArray(read) || !Object.values(read).every(isText))) {
    return undefined;
  }
  return Object.assign(Object.create(null), read);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/**
 * Where messages wait between the transaction that wrote them and the broker. `Transaction` is what a caller hands over
 * to write within its own transaction; `OutboxStore` alone is any store, as a relay takes it.
 *
 * **What is never lost.** A row is there from the commit of the transaction that inserted it until it is settled as
 * `sent`, or discarded by name. Relays look at rows, never at a cursor over ids: a row that commits after rows with higher
 * positions is claimed like any other.
 *
 * **Order of a key.** A key is told apart by destination and key. Its rows are claimed by position, and at most one
 * claim at a time holds rows of a key, whoever made it, this relay included. An `ordered` row that failed or was
 * quarantined with `holdsKey` keeps the later rows of its key from being claimed until it is settled. Keys do not wait for
 * each other, save that a store may lock several keys together while one of them is in flight.
 *
 * **A lower row that commits late.** Two transactions that write to one key at the same time have no order between them
 * but that of their commits. If the one with the higher position commits first and is claimed, it goes first; the lower
 * one follows when it can be seen and no claim holds the key. If both can be seen they go by position. Within one transaction
 * order is always that of the calls. Transactions that exclude each other, such as by a lock on the row that the
 * messages speak of, taken before the first send, go in their order.
 *
 * **At least once.** A relay that dies, or stands still for longer than its lease, leaves rows that it sent and did not
 * settle: they are sent again under the same id. Nothing can keep a relay that wakes after its lease from sending once more;
 * the first copies of a key are in order all the same.
 *
 * Calls may be made concurrently, from any number of processes. Time is the database's. A call rejects with a
 * `MessagingError`, within a bounded time: `unreachable` where it may be made again, `unauthorized`, `not-found`,
 * `conflict`. Errors hold no body, header or key.
 */
export interface OutboxStore<Transaction = never> {
  /** What the store is, in lower case, as messages to people say it: `postgres`. */
  readonly name: string;

  /**
   * Writes rows within the caller's transaction, in order, in one statement as far as the database's limits allow. Where
   * the database is synchronous they are written before this returns; what goes wrong then is thrown. None for an empty list.
   */
  insert(transaction: Transaction, rows: readonly NewOutboxRow[]): void | Promise<void>;

  /**
   * Claims rows that are due for `leaseMs` milliseconds: at most `limit`, possibly fewer than there are. Rows of one key
   * come by position. Undefined if there is nothing to claim: nothing is due, or others hold it.
   */
  claim(request: OutboxClaimRequest): Promise<OutboxClaim | undefined>;

  /**
   * Lets a claim end `leaseMs` from now. `lost` if any of it may have been claimed by another since: then none of its rows
   * should be sent any more that has not been handed to the broker.
   */
  renew(token: string, leaseMs: number): Promise<"renewed" | "lost">;

  /**
   * Says what became of rows of a claim: all of them, or some now and others later. A row is settled once; its key is free
   * for others as soon as every row of it in the claim is settled. The claim is over with its last row.
   *
   * `sent` is honoured also when the lease is over, since the broker has the message. Everything else is done only if the
   * claim still holds the row. Settling a row again does nothing, so that a call whose answer was lost can be made again.
   * Resolves with the positions that were not changed. If such a row can be claimed again, its relay takes it that the
   * database ignores the settlement.
   */
  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]>;

  /** The rows that were quarantined, by position, after `after`; at most `limit`. */
  listQuarantined(request: { readonly limit: number; readonly after?: number }): Promise<readonly QuarantinedRow[]>;

  /**
   * Makes quarantined rows claimable at once, with no attempts counted. An `ordered` row that let the later rows of its key
   * pass goes last, under a new position. Resolves with the positions that were quarantined and are no more.
   */
  retryQuarantined(positions: readonly number[]): Promise<readonly number[]>;

  /** Removes quarantined rows for good, unsent; held keys go on. Resolves with the positions that it removed. */
  discardQuarantined(positions: readonly number[]): Promise<readonly number[]>;

  /**
   * Removes at most `limit` sent rows whose time of keeping is over, and no other. Resolves with how many it removed; always
   * 0 for a store that keeps none.
   */
  clean(limit: number): Promise<number>;

  /** How the outbox is. */
  health(): Promise<OutboxHealth>;

  /**
   * Calls `wake` when rows may have been committed, as a hint only: calls may be missing, late or too many. Reconnects by
   * itself. Resolves when it listens, or has begun to try; the result ends it, and a second call of that does nothing.
   * Undefined where the store cannot, or was not told to.
   */
  readonly listen?: (wake: () => void) => Promise<() => Promise<void>>;
}

/** A message as the outbox writes it. */
export interface NewOutboxRow {
  /** The message's id: a UUIDv7, or what the caller gave. Not unique: one id may go to several destinations. */
  readonly id: string;
  readonly to: QueueAddress | TopicAddress;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** The caller's, the trace context among them, and the engine's own, which begin with `anybroker-`. */
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly priority: number;
  /** Milliseconds until it is due; 0 is at once. Always 0 where `ordered`. */
  readonly delayMs: number;
  /**
   * Milliseconds since 1970 after which it need not be delivered; its headers say the same. A relay sends what is too old
   * too, with a time to live of 1, so that it ends in the dead letters and not in nothing.
   */
  readonly expiresAt: number | undefined;
  /** Whether its destination is ordered, and it has a key: then it holds its key when it fails. */
  readonly ordered: boolean;
  /** Whether a topic without a matching subscription is as good as sent. */
  readonly discardUnroutable: boolean;
}

/** A message as a relay gets it. */
export interface OutboxRow extends Omit<NewOutboxRow, "delayMs"> {
  /** Unique in the outbox and ascending with each insert, though not with each commit. */
  readonly position: number;
  /** How many claims of it ended as `failed`. */
  readonly attempts: number;
  /** Milliseconds since 1970, by the database. */
  readonly createdAt: number;
  /** Why the row is not what was written, if so: it is quarantined and not sent, and nothing else in it counts. */
  readonly unreadable?: MessagingError | undefined;
}

/** What a relay asks for. */
export interface OutboxClaimRequest {
  /** Who asks, for people to read. Two relays may have the same. */
  readonly relay: string;
  /** The most rows; at least 1. */
  readonly limit: number;
  /** For how long, in milliseconds, unless renewed. Then others may claim the same rows. */
  readonly leaseMs: number;
}

/** Rows that are the claimer's until the lease ends. */
export interface OutboxClaim {
  /** Unique; proves the claim. */
  readonly token: string;
  /** At least one. */
  readonly rows: readonly OutboxRow[];
}

/**
 * What became of a claimed row:
 * - `sent`: the broker confirmed it.
 * - `released`: it was not tried: it can be claimed at once, and nothing is counted.
 * - `failed`: it was tried in vain: one attempt more, and not claimed for `retryInMs`. An `ordered` row holds its key
 *   until then.
 * - `quarantined`: one attempt more, and not claimed until somebody says so. With `holdsKey` an `ordered` row holds its key.
 */
export type OutboxSettlement = { readonly position: number } & (
  | { readonly outcome: "sent" }
  | { readonly outcome: "released" }
  | { readonly outcome: "failed"; readonly error: OutboxError; readonly retryInMs: number }
  | { readonly outcome: "quarantined"; readonly error: OutboxError; readonly holdsKey: boolean }
);

/** Why a row could not be sent: never a body, a key or a credential. */
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

/** How an outbox is. */
export interface OutboxHealth {
  /** Rows that are not sent, those not due and in flight included, quarantined ones not. Counted up to 1,000,000. */
  readonly unsent: number;
  /** For how long the oldest row that is due has been waiting since it was due, in milliseconds; 0 if none is. */
  readonly oldestUnsentMs: number;
  /** Counted up to 1,000,000. */
  readonly quarantined: number;
  /** What may keep the outbox from moving; empty if nothing is known. */
  readonly stalls: readonly OutboxStall[];
}

/**
 * Something that may keep an outbox from moving:
 * - `open-transaction`: a transaction has been open for long: what it wrote cannot be seen yet, and the database cannot
 *   clear away what was removed since.
 * - `held-key`: rows wait behind a quarantined row of their key.
 * - `expired-claim`: a relay did not renew its claim and nobody has taken it over.
 * - `unclaimable`: rows that no claim takes, since somebody changed them or the tables; the others go on.
 */
export interface OutboxStall {
  readonly cause: "open-transaction" | "held-key" | "expired-claim" | "unclaimable";
  /** For how long, in milliseconds. */
  readonly ageMs: number;
  /** What it is and what to do, for people; no key, body or query. */
  readonly message: string;
}

import type { MessagingError } from "../../core/index.ts";

/**
 * What keeps a relay from sending:
 * - `broker-closed`: the broker object is not started.
 * - `broker-down`: it has no connection.
 * - `broker-blocked`: the broker refuses to take messages for now.
 * - `store-down`: the store does not answer, or refuses to; `error` says which.
 */
export type RelayStallCause = "broker-closed" | "broker-down" | "broker-blocked" | "store-down";

/** Why a relay sends nothing for now, and since when. */
export interface RelayStall {
  readonly cause: RelayStallCause;
  /** For how long, in milliseconds. */
  readonly ageMs: number;
  readonly error: unknown;
}

/** The calls of an `OutboxStore` that a relay makes. */
export type RelayStoreCall = "claim" | "renew" | "settle" | "clean" | "health" | "listen";

/** Which row an event is about. */
export interface RelayRowEvent {
  /** The message's id. */
  readonly id: string;
  /** The queue's or topic's name. */
  readonly destination: string;
}

/**
 * What `createRelay { onEvent }` is told. Never holds a key, a header, a body or a credential.
 *
 * - `stalled`: nothing is sent for now, and why; told once, and again when the cause is another.
 * - `flowing`: the stall is over.
 * - `failed`: the broker refused a row; it is tried again after `retryMs`, and until then nothing behind it in its key.
 * - `quarantined`: the broker refused a row for the last time, or it was sent and the database does not let it be removed
 *   (`conflict`); it stands in the store until somebody retries or discards it.
 * - `postponed`: nobody knows what became of a row, or it never left; it is tried again after `retryMs` under its id. That
 *   alone never quarantines it.
 * - `lost`: rows whose lease ended before they were marked: another relay sends them, under their ids.
 * - `store-failed`: a call to the store failed or was not answered in time; it is made again.
 */
export type RelayEvent =
  | { readonly type: "stalled"; readonly cause: RelayStallCause; readonly error: unknown }
  | { readonly type: "flowing" }
  | (RelayRowEvent & {
      readonly type: "failed";
      readonly attempts: number;
      readonly retryMs: number;
      readonly error: MessagingError;
    })
  | (RelayRowEvent & { readonly type: "quarantined"; readonly attempts: number; readonly error: MessagingError })
  | (RelayRowEvent & { readonly type: "postponed"; readonly retryMs: number; readonly error: MessagingError })
  | { readonly type: "lost"; readonly count: number }
  | { readonly type: "store-failed"; readonly call: RelayStoreCall; readonly error: unknown };

import type { MessagingError } from "../../core/index.ts";

/** Which message of which consumer an event is about. */
export interface IdempotencyEventSource {
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /** The message's id. */
  readonly id: string;
}

/**
 * What `idempotent { onEvent }` is told. Never holds a key, a body or a credential.
 *
 * - `duplicate`: it was done before, and is acknowledged without the handler.
 * - `postponed`: it was not given to the handler, or the store lost its claim, and comes again after `afterMs`, without an
 *   attempt being counted; `because` its key is held by another, or the store did not answer, or the claim was lost.
 * - `claim-lost`: the claim was lost while the handler ran: another may run beside it. The handler's signal was aborted
 *   with the error.
 * - `unrecorded`: the handler succeeded, and that could not be recorded: a duplicate would run again.
 * - `store-failed`: a call to the store failed or was not answered in time. What follows from it has an event of its own;
 *   a failed `clean` is told beside the message after which it was tried.
 */
export type IdempotencyEvent = IdempotencyEventSource &
  (
    | { readonly type: "duplicate" }
    | { readonly type: "postponed"; readonly because: "busy" | "store" | "lost"; readonly afterMs: number }
    | { readonly type: "claim-lost"; readonly error: MessagingError }
    | { readonly type: "unrecorded" }
    | { readonly type: "store-failed"; readonly call: StoreCall; readonly error: unknown }
  );

/** The calls of an `IdempotencyStore`. */
export type StoreCall = "claim" | "renew" | "complete" | "release" | "clean";

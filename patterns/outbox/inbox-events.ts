import type { MessagingError } from "../../core/index.ts";

/** Which message of which consumer an event is about. */
export interface InboxEventSource {
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /** The message's id. */
  readonly id: string;
}

/**
 * What `transactional { onEvent }` is told. Never holds a body or a credential.
 *
 * - `duplicate`: it was handled before, and is acknowledged without the handler.
 * - `postponed`: it comes again after `afterMs`, without an attempt being counted; `because` another transaction holds it
 *   (`busy`), or the database could not be asked, or said that it goes down while the handler ran (`store`).
 * - `refused`: it goes to the dead letters: it is older than the inbox remembers (`age`), or its handler ended the
 *   transaction by itself (`transaction`).
 * - `store-failed`: a call to the store failed. What follows from it has an event of its own; a failed `clean` is told
 *   beside the message after which it was tried.
 */
export type InboxEvent = InboxEventSource &
  (
    | { readonly type: "duplicate" }
    | { readonly type: "postponed"; readonly because: "busy" | "store"; readonly afterMs: number }
    | { readonly type: "refused"; readonly because: "age" | "transaction"; readonly reason: string }
    | { readonly type: "store-failed"; readonly call: "handle" | "clean"; readonly error: MessagingError }
  );

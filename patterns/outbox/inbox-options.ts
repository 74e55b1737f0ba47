import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import { type Clock, type Delivery, MessagingError } from "../../core/index.ts";
import { storableText } from "../../core/stores.ts";
import type { InboxMessage } from "./inbox-store.ts";

/**
 * What stands for a message in an inbox. Names have no `/`, so no two consumers share one. An id that a store need not
 * carry (other characters than printable ASCII, or too many of them) is hashed.
 */
export function inboxMessage({ destination, subscription, id }: Delivery): InboxMessage {
  return {
    consumer: subscription === undefined ? destination : `${destination}/${subscription}`,
    id: storableText(id),
  };
}

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

/** The options of `transactional`. */
export interface InboxOptions {
  /**
   * For how long a handled message is remembered, in milliseconds: longer than the oldest message that may come again, the
   * age of a replayed dead letter, of a rewound event and of a delayed message included. Default 604,800,000, seven days.
   */
  readonly retentionMs?: number;
  /**
   * What becomes of a message that was first published longer ago than `retentionMs` and is not in the inbox: it cannot
   * be told from a duplicate. `dead-letter` refuses it, with a reason that says so; `handle` handles it all the same, and
   * its effect may come twice. Default `dead-letter`.
   */
  readonly olderThanRetention?: "dead-letter" | "handle";
  /**
   * How long a message waits, in its handler's place, for another transaction that holds it, in milliseconds; then it is
   * postponed. It takes its time from the consumer's `timeoutMs`, and ends shortly before that is over. Default 5,000.
   */
  readonly waitMs?: number;
  /** How long a postponed message stays away at most, in milliseconds; at least half of it, by chance. Default 5,000. */
  readonly postponeMs?: number;
  /** How the inbox is cleaned of what it need not remember any more, or `false` if somebody else does it. */
  readonly clean?: InboxCleanOptions | false;
  /** Told what happens. What it throws is ignored. */
  readonly onEvent?: (event: InboxEvent) => void;
  /** Where ages and waiting take their time from; rows end by the database's. Default: the machine. */
  readonly clock?: Clock;
}

/** How an inbox is cleaned: a little at a time, after a commit, beside the handlers. */
export interface InboxCleanOptions {
  /** Milliseconds between two cleanings; none if the last found as much as it might take. Default 60,000. */
  readonly everyMs?: number;
  /** The most rows that one cleaning removes. Default 1,000. */
  readonly limit?: number;
}

/** The options with nothing left open. */
export interface InboxSettings {
  readonly retentionMs: number;
  readonly refusesOlder: boolean;
  readonly waitMs: number;
  readonly postponeMs: number;
  readonly clean: Required<InboxCleanOptions> | undefined;
  readonly onEvent: ((event: InboxEvent) => void) | undefined;
  readonly clock: Clock;
}

const OPTIONS = ["retentionMs", "olderThanRetention", "waitMs", "postponeMs", "clean", "onEvent", "clock"];

/** Checks what was given and fills in the defaults. */
export function inboxSettings(options: InboxOptions): InboxSettings {
  checkOptions("transactional", options, OPTIONS);
  const { retentionMs = 7 * 24 * 60 * 60 * 1_000, olderThanRetention = "dead-letter" } = options;
  const { waitMs = 5_000, postponeMs = 5_000, onEvent } = options;
  const clock = clockOf("transactional { clock }", options.clock);
  checkInteger("transactional { retentionMs }", retentionMs, 1, LONGEST_MS);
  checkInteger("transactional { waitMs }", waitMs, 0, 2 ** 31 - 1);
  checkInteger("transactional { postponeMs }", postponeMs, 1, LONGEST_MS);
  if (olderThanRetention !== "dead-letter" && olderThanRetention !== "handle") {
    throw new MessagingError("invalid", 'transactional { olderThanRetention } takes "dead-letter" or "handle"');
  }
  if (onEvent !== undefined && typeof onEvent !== "function") {
    throw new MessagingError("invalid", "transactional { onEvent } takes a function");
  }
  const refusesOlder = olderThanRetention === "dead-letter";
  return { retentionMs, refusesOlder, waitMs, postponeMs, clean: cleanSettings(options.clean), onEvent, clock };
}

function cleanSettings(given: InboxCleanOptions | false = {}): Required<InboxCleanOptions> | undefined {
  if (given === false) return undefined;
  checkOptions("transactional { clean }", given, ["everyMs", "limit"]);
  const { everyMs = 60_000, limit = 1_000 } = given;
  checkInteger("transactional { clean: { everyMs } }", everyMs, 1, LONGEST_MS);
  checkInteger("transactional { clean: { limit } }", limit, 1);
  return { everyMs, limit };
}

import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { Delivery } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import { cleanSettings, storableText } from "../../core/stores.ts";
import type { InboxMessage } from "./inbox-store.ts";

/**
 * The key of a message in an inbox. Names contain no `/`, so no two consumers share one. Long ids, and ids with other
 * characters than printable ASCII, are hashed.
 */
export function inboxMessage({ destination, subscription, id }: Delivery): InboxMessage {
  return {
    consumer: subscription === undefined ? destination : `${destination}/${subscription}`,
    id: storableText(id),
  };
}

/** The message and consumer of an event. */
export interface InboxEventSource {
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /** The message's id. */
  readonly id: string;
}

/**
 * An event of `transactional { onEvent }`. It never has a body or a credential.
 *
 * - `duplicate`: the message was handled before, and is acknowledged without the handler.
 * - `postponed`: the message is redelivered after `afterMs`, without counting an attempt. `because`: another transaction
 *   holds it (`busy`), or the database could not be reached, or reported a shutdown while the handler ran (`store`).
 * - `refused`: the message is dead-lettered. It is older than `retentionMs` (`age`), or its handler ended the transaction
 *   (`transaction`).
 * - `store-failed`: a call to the store failed. Its consequence has another event. A failed `clean` names the message after
 *   which it ran.
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
   * For how long a handled message is remembered, in milliseconds: longer than the age of any redelivery, including replayed
   * dead letters, rewound events and delayed messages. Default 604,800,000, seven days.
   */
  readonly retentionMs?: number;
  /**
   * What to do with a message that was first published longer than `retentionMs` ago and is not in the inbox: it may be a
   * duplicate. `dead-letter` dead-letters it, with the reason. `handle` handles it, and its effect may come twice. Default
   * `dead-letter`.
   */
  readonly olderThanRetention?: "dead-letter" | "handle";
  /**
   * How long a message waits for another transaction that holds it, in milliseconds; then it is postponed. The wait occupies a
   * place of the consumer's concurrency, and ends shortly before the consumer's `timeoutMs`. Default 5,000.
   */
  readonly waitMs?: number;
  /** The longest delay of a postponed message, in milliseconds. The delay is random, at least half of it. Default 5,000. */
  readonly postponeMs?: number;
  /** How expired rows are removed, or `false` if another process does it. */
  readonly clean?: InboxCleanOptions | false;
  /** Called for each event. Errors that it throws are ignored. */
  readonly onEvent?: (event: InboxEvent) => void;
  /** The clock for ages and waits; rows end by the database's clock. Default: the machine's. */
  readonly clock?: Clock;
}

/** How an inbox is cleaned: a few rows at a time, after a commit, beside the handlers. */
export interface InboxCleanOptions {
  /** Milliseconds between two cleanings; 0 after a cleaning that reached its limit. Default 60,000. */
  readonly everyMs?: number;
  /** The most rows that one cleaning removes. Default 1,000. */
  readonly limit?: number;
}

/** The options with their defaults. */
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

/** Checks the options and fills in the defaults. */
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
  return {
    retentionMs,
    refusesOlder,
    waitMs,
    postponeMs,
    clean: cleanSettings("transactional", options.clean),
    onEvent,
    clock,
  };
}

import { checkInteger, checkOptions, clockOf, LONGEST_MS } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import {
  type Delivery,
  deadLetter,
  type Handler,
  type HandlerResult,
  type Outcome,
  outcomeKind,
  postpone,
} from "../../core/delivery.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { Cleaning, cleanSettings, spareMs, storableText } from "../../core/stores.ts";
import type { InboxMessage, InboxStore } from "./inbox-store.ts";

/** Rows are kept longer than their retention by this: the publisher's clock dates messages, and the database's clock rows. */
const CLOCK_SKEW_MS = 60 * 60 * 1_000;
const HOUR_MS = 60 * 60 * 1_000;

/**
 * Handles one message in a database transaction. Its writes with `transaction`, its messages by `outbox.send(transaction, …)`
 * and the row of the message are committed together, or not at all.
 */
export type TransactionalHandler<Body, Transaction> = (
  body: Body,
  delivery: Delivery,
  transaction: Transaction,
) => HandlerResult | Promise<HandlerResult>;

/**
 * A handler whose effects in one database happen once per message, with any number of copies. One transaction has the row of
 * the message, the handler's writes and its outgoing messages. The message is acknowledged after the commit. Consumers are
 * separate by queue, and by subscription of a topic.
 *
 * - Handled before: acknowledged without the handler.
 * - Two copies at once: the second waits for the first's transaction, for `waitMs` at most, and is then postponed, which uses
 *   no attempt.
 * - The handler throws, or returns `retry()`, `postpone()` or `deadLetter()`: rolled back, then as without an inbox.
 * - The delivery's signal is aborted before the handler has ended: rolled back at once. Later writes of the handler fail.
 * - The database cannot be reached before the handler begins, or reports that it was stopped or restarted meanwhile: the
 *   message is postponed. If it was committed, the redelivery is a duplicate.
 * - The transaction or its connection ends otherwise after the handler began (a timeout of the server, a lost or terminated
 *   connection, a commit without an answer): the handler may be the reason, so the attempt fails. After a commit without an
 *   answer the inbox checks whether it was kept.
 * - Older than `retentionMs` and not in the inbox: dead-lettered, unless `olderThanRetention` is `handle`.
 *
 * The handler must not end the transaction, nor use it after it has returned. If it ends the transaction, its message is
 * dead-lettered, since it is unknown what was kept. Effects outside the database are not covered.
 *
 * Throws `invalid` for wrong options.
 */
export function transactional<Body, Transaction>(
  inbox: InboxStore<Transaction>,
  handler: TransactionalHandler<Body, Transaction>,
  options: InboxOptions = {},
): Handler<Body> {
  if (typeof inbox?.handle !== "function" || typeof handler !== "function") {
    throw new MessagingError("invalid", "transactional(inbox, handler) takes an inbox, such as postgresInbox(pool)");
  }
  const settings = inboxSettings(options);
  const cleaning = new Cleaning(settings.clock, settings.clean);
  return (body, delivery) => new Handling(inbox, handler, settings, cleaning, delivery).run(body);
}

const ENDED_EARLIER =
  "an earlier attempt ended the inbox's transaction and did not finish: leave BEGIN, COMMIT and ROLLBACK to the inbox; look at what it wrote";

type EventOf<Type extends InboxEvent["type"]> = Extract<InboxEvent, { readonly type: Type }>;

/** The properties of an event besides its message. */
type EventDetails = {
  [Type in InboxEvent["type"]]: Omit<EventOf<Type>, "destination" | "subscription" | "id">;
}[InboxEvent["type"]];

class Handling<Body, Transaction> {
  readonly #inbox: InboxStore<Transaction>;
  readonly #handler: TransactionalHandler<Body, Transaction>;
  readonly #settings: InboxSettings;
  readonly #cleaning: Cleaning;
  readonly #delivery: Delivery;
  /** The error that the handler threw. The initial object equals no error. */
  #thrown: { readonly error: unknown } = { error: {} };
  #outcome: Outcome | undefined = undefined;
  #begun = false;

  constructor(
    inbox: InboxStore<Transaction>,
    handler: TransactionalHandler<Body, Transaction>,
    settings: InboxSettings,
    cleaning: Cleaning,
    delivery: Delivery,
  ) {
    this.#inbox = inbox;
    this.#handler = handler;
    this.#settings = settings;
    this.#cleaning = cleaning;
    this.#delivery = delivery;
  }

  async run(body: Body): Promise<HandlerResult> {
    const { signal } = this.#delivery;
    const message = inboxMessage(this.#delivery);
    const waitMs = this.#waitMs;
    try {
      const end = await this.#inbox.handle(message, (transaction) => this.#work(body, transaction), { waitMs, signal });
      if (end === "busy") return this.#postponed("busy");
      if (end === "ended-early") return this.#refused("transaction", ENDED_EARLIER);
      if (end === "duplicate") this.#emit({ type: "duplicate" });
      if (end !== "committed") return this.#outcome;
      void this.#cleaning.runIfDue((limit) => this.#clean(message.consumer, limit));
      return undefined;
    } catch (error) {
      if (error === this.#thrown.error || (signal.aborted && error === signal.reason)) throw error;
      this.#failed("handle", error);
      return this.#afterFailure(message, error);
    }
  }

  async #clean(consumer: string, limit: number): Promise<number> {
    try {
      return await this.#inbox.clean(consumer, this.#settings.retentionMs + CLOCK_SKEW_MS, limit);
    } catch (error) {
      this.#failed("clean", error);
      return 0;
    }
  }

  /** The result after a failure of the inbox. It uses an attempt unless the handler is certainly not the reason. */
  async #afterFailure(message: InboxMessage, error: unknown): Promise<HandlerResult> {
    if (isMessagingError(error, "refused")) throw error;
    if (!this.#begun) return this.#postponed("store");
    if (isMessagingError(error, "conflict"))
      return this.#refused("transaction", `${error.message}; look at what it wrote`);
    if (isMessagingError(error, "unconfirmed")) {
      if (await this.#isKept(message)) return undefined;
      throw error;
    }
    if (isMessagingError(error)) return this.#postponed("store");
    throw error;
  }

  /** Whether a commit without an answer was certainly kept. */
  async #isKept(message: InboxMessage): Promise<boolean> {
    const { signal } = this.#delivery;
    const waitMs = this.#waitMs;
    try {
      return (await this.#inbox.handle(message, async () => false, { waitMs, signal })) === "duplicate";
    } catch {
      return false;
    }
  }

  /** Resolves with whether to commit. */
  async #work(body: Body, transaction: Transaction): Promise<boolean> {
    this.#begun = true;
    const tooOld = this.#ageRefusal();
    if (tooOld !== undefined) {
      this.#outcome = this.#refused("age", tooOld);
      return false;
    }
    try {
      const result = await this.#handler(body, this.#delivery, transaction);
      if (outcomeKind(result) === undefined) return true;
      this.#outcome = result as Outcome;
      return false;
    } catch (error) {
      this.#thrown = { error };
      throw error;
    }
  }

  /**
   * The reason to refuse an old message. It runs after the insert of the row: there was no row of an earlier handling, and
   * cleaning removes rows only at this age.
   */
  #ageRefusal(): string | undefined {
    const { retentionMs, refusesOlder, clock } = this.#settings;
    const ageMs = clock.now() - this.#delivery.firstPublishedAt.getTime();
    if (!refusesOlder || ageMs < retentionMs) return undefined;
    return (
      `first published ${days(ageMs)} ago, and the inbox remembers ${days(retentionMs)} (retentionMs): ` +
      "it may be a duplicate; " +
      'raise retentionMs above the age of replays, handle it with olderThanRetention: "handle", or send it again'
    );
  }

  /** The wait ends before the attempt's time. */
  get #waitMs(): number {
    return Math.min(this.#settings.waitMs, spareMs(this.#delivery));
  }

  #postponed(because: "busy" | "store"): Outcome {
    // Random, so that messages that were postponed together do not return together.
    const afterMs = Math.ceil(this.#settings.postponeMs * (0.5 + Math.random() / 2));
    this.#emit({ type: "postponed", because, afterMs });
    return postpone({ afterMs });
  }

  #refused(because: "age" | "transaction", reason: string): Outcome {
    this.#emit({ type: "refused", because, reason });
    return deadLetter(reason);
  }

  #failed(call: "handle" | "clean", cause: unknown): void {
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `the inbox in ${this.#inbox.name} failed to ${call}; see the cause`, {
          cause,
        });
    this.#emit({ type: "store-failed", call, error });
  }

  #emit(details: EventDetails): void {
    const { onEvent } = this.#settings;
    const { destination, subscription, id } = this.#delivery;
    observe(onEvent, { destination, subscription, id, ...details } as InboxEvent);
  }
}

/** A duration in words. */
function days(ms: number): string {
  if (ms >= 48 * HOUR_MS) return `${Math.floor(ms / (24 * HOUR_MS))} days`;
  return ms >= HOUR_MS ? `${Math.floor(ms / HOUR_MS)} hours` : `${Math.floor(ms / 1_000)} seconds`;
}

/** Settles as the promise, or rejects with the signal's reason as soon as it is aborted. */
export function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    promise.finally(() => signal.removeEventListener("abort", abort)).then(resolve, reject);
  });
}

/**
 * The key of a message in an inbox. Names contain no `/`, so no two consumers share one. Long ids, and ids with other
 * characters than printable ASCII, are hashed.
 */
function inboxMessage({ destination, subscription, id }: Delivery): InboxMessage {
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
interface InboxSettings {
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
function inboxSettings(options: InboxOptions): InboxSettings {
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

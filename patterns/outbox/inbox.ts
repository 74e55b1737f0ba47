import type { Delivery, Handler, HandlerResult } from "../../core/delivery.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { deadLetter, type Outcome, outcomeKind, postpone } from "../../core/outcome.ts";
import { Cleaning, spareMs } from "../../core/stores.ts";
import {
  type InboxEvent,
  type InboxOptions,
  type InboxSettings,
  inboxMessage,
  inboxSettings,
} from "./inbox-options.ts";
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
  const settings = inboxSettings(options);
  const cleaning = new Cleaning(settings.clock, settings.clean);
  return (body, delivery) => new Handling(inbox, handler, settings, cleaning, delivery).run(body);
}

const ENDED_EARLIER =
  "an earlier attempt ended the inbox's transaction and did not come to its end: leave BEGIN, COMMIT and ROLLBACK to the inbox; look at what it wrote";

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

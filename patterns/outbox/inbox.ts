import { observe } from "../../core/foreign.ts";
import {
  type Clock,
  type Delivery,
  deadLetter,
  type Handler,
  type HandlerResult,
  isMessagingError,
  MessagingError,
  type Outcome,
  postpone,
} from "../../core/index.ts";
import { outcomeKind } from "../../core/outcome.ts";
import { spareMs } from "../../core/stores.ts";
import type { InboxEvent } from "./inbox-options.ts";
import { type InboxOptions, type InboxSettings, inboxMessage, inboxSettings } from "./inbox-options.ts";
import type { InboxMessage, InboxStore } from "./inbox-store.ts";

/**
 * How much longer than their retention rows are kept: what a message's age is counted from is the time of day of the
 * machine that published it, and the rows' is the database's.
 */
const CLOCKS_DIFFER_MS = 60 * 60 * 1_000;

/** Cleans an inbox now and then, beside the handlers: a bounded piece at a time, one at once. */
class InboxCleaning {
  readonly #store: Pick<InboxStore<unknown>, "clean">;
  readonly #settings: InboxSettings;
  #cleaning = false;
  #dueAt: number;

  constructor(store: Pick<InboxStore<unknown>, "clean">, settings: InboxSettings) {
    this.#store = store;
    this.#settings = settings;
    // Processes that start together do not clean together.
    this.#dueAt = settings.clock.monotonic() + (settings.clean?.everyMs ?? 0) * Math.random();
  }

  /** Something was committed: cleans if it is time to. Failures go to `failed`. */
  committed(consumer: string, failed: (error: unknown) => void): void {
    const { clean, clock } = this.#settings;
    if (clean === undefined || this.#cleaning || clock.monotonic() < this.#dueAt) return;
    this.#cleaning = true;
    void this.#clean(consumer, clean).catch(failed);
  }

  async #clean(consumer: string, { everyMs, limit }: NonNullable<InboxSettings["clean"]>): Promise<void> {
    const { retentionMs, clock } = this.#settings;
    let pauseMs = everyMs;
    try {
      const removed = await this.#store.clean(consumer, retentionMs + CLOCKS_DIFFER_MS, limit);
      if (removed >= limit) pauseMs = 0;
    } finally {
      this.#dueAt = clock.monotonic() + pauseMs;
      this.#cleaning = false;
    }
  }
}

/**
 * Settles as the promise does, or rejects with `timeout` after `ms` milliseconds. What comes too late goes to `late`.
 */
export function within<T>(
  clock: Clock,
  ms: number,
  what: string,
  promise: Promise<T>,
  late: (value: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      reject(new MessagingError("timeout", `${what} took longer than ${ms} ms`));
    }, ms);
    const settle = (action: () => void): void => {
      clock.cancel(timer);
      action();
    };
    promise.then(
      (value) => (waiting ? settle(() => resolve(value)) : late(value)),
      (error: unknown) => settle(() => reject(error)),
    );
  });
}

/** Settles as the promise does, or rejects with the signal's reason as soon as it is aborted. */
export function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    const over = (): void => signal.removeEventListener("abort", abort);
    promise.then(
      (value) => {
        over();
        resolve(value);
      },
      (error: unknown) => {
        over();
        reject(error);
      },
    );
  });
}

/**
 * Handles one message inside of a database transaction: what it writes with `transaction`, and what it gives to
 * `outbox.send(transaction, …)`, is kept together with the note that the message was handled, or not at all.
 */
export type TransactionalHandler<Body, Transaction> = (
  body: Body,
  delivery: Delivery,
  transaction: Transaction,
) => HandlerResult | Promise<HandlerResult>;

/**
 * A handler whose effects in one database come once per message, however often the message comes: in one transaction the
 * row that remembers the message, the handler's own writes and its outgoing messages; committed, and only then
 * acknowledged. Consumers are apart by queue, and by subscription of a topic.
 *
 * - Handled before: acknowledged without the handler.
 * - Two copies at once: the second waits for the first's transaction, at most `waitMs`, and is then postponed, which uses
 *   up no attempt.
 * - The handler throws, or returns `retry()`, `postpone()` or `deadLetter()`: rolled back, then as if there were no inbox.
 * - The delivery's signal is aborted before the handler has ended: rolled back at once. Whatever a handler that does not
 *   heed it still tries to write fails.
 * - The database cannot be asked before the handler has begun, or it says itself that it was stopped or restarted
 *   meanwhile: the message is postponed. If it was committed, it is a duplicate when it comes again.
 * - Anything else that ends the transaction or its connection once the handler has begun (a statement or transaction that
 *   takes too long, a connection that is terminated or lost, a commit without an answer): nothing shows that it was not the
 *   handler's doing, so it is a failed attempt. After a commit without an answer the inbox is asked whether it was kept.
 * - Older than `retentionMs` and not in the inbox: to the dead letters, unless `olderThanRetention` says otherwise.
 *
 * The handler must not end the transaction, nor use it after it has returned; one that ended it has its message
 * dead-lettered, since nobody can say what was kept. Effects outside of the database are not covered.
 *
 * Throws `invalid` for wrong options.
 */
export function transactional<Body, Transaction>(
  inbox: InboxStore<Transaction>,
  handler: TransactionalHandler<Body, Transaction>,
  options: InboxOptions = {},
): Handler<Body> {
  const settings = inboxSettings(options);
  const cleaning = new InboxCleaning(inbox, settings);
  return (body, delivery) => new Handling(inbox, handler, settings, cleaning, delivery).run(body);
}

type EventOf<Type extends InboxEvent["type"]> = Extract<InboxEvent, { readonly type: Type }>;

/** What an event says besides its message. */
type Happening = {
  [Type in InboxEvent["type"]]: Omit<EventOf<Type>, "destination" | "subscription" | "id">;
}[InboxEvent["type"]];

class Handling<Body, Transaction> {
  readonly #inbox: InboxStore<Transaction>;
  readonly #handler: TransactionalHandler<Body, Transaction>;
  readonly #settings: InboxSettings;
  readonly #cleaning: InboxCleaning;
  readonly #delivery: Delivery;
  /** What the handler threw; nothing else is equal to what stands there before. */
  #thrown: { readonly error: unknown } = { error: {} };
  #outcome: Outcome | undefined = undefined;
  #begun = false;

  constructor(
    inbox: InboxStore<Transaction>,
    handler: TransactionalHandler<Body, Transaction>,
    settings: InboxSettings,
    cleaning: InboxCleaning,
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
      if (end === "duplicate") this.#tell({ type: "duplicate" });
      if (end !== "committed") return this.#outcome;
      this.#cleaning.committed(message.consumer, (error) => this.#failed("clean", error));
      return undefined;
    } catch (error) {
      if (error === this.#thrown.error || (signal.aborted && error === signal.reason)) throw error;
      this.#failed("handle", error);
      return this.#unhandled(message, error);
    }
  }

  /** What follows if the inbox failed: an attempt is used up unless it is certain that the handler has no part in it. */
  async #unhandled(message: InboxMessage, error: unknown): Promise<HandlerResult> {
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

  /** Whether a commit without an answer is known to have been kept. */
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
   * Asked with the row in the transaction: a row of an earlier handling was not there, and it cannot have been removed
   * before the message was as old as that.
   */
  #ageRefusal(): string | undefined {
    const { retentionMs, refusesOlder, clock } = this.#settings;
    const ageMs = clock.now() - this.#delivery.firstPublishedAt.getTime();
    if (!refusesOlder || ageMs < retentionMs) return undefined;
    return (
      `first published ${days(ageMs)} ago, and the inbox remembers ${days(retentionMs)} (retentionMs): ` +
      "it cannot be told from a duplicate; " +
      'raise retentionMs above the age of replays, let it pass with olderThanRetention: "handle", or send it anew'
    );
  }

  /** Not so long that the attempt would be over first. */
  get #waitMs(): number {
    return Math.min(this.#settings.waitMs, spareMs(this.#delivery));
  }

  #postponed(because: "busy" | "store"): Outcome {
    // Those that were postponed together do not come back together.
    const afterMs = Math.ceil(this.#settings.postponeMs * (0.5 + Math.random() / 2));
    this.#tell({ type: "postponed", because, afterMs });
    return postpone({ afterMs });
  }

  #refused(because: "age" | "transaction", reason: string): Outcome {
    this.#tell({ type: "refused", because, reason });
    return deadLetter(reason);
  }

  #failed(call: "handle" | "clean", cause: unknown): void {
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unreachable", `the inbox in ${this.#inbox.name} failed to ${call}; see the cause`, {
          cause,
        });
    this.#tell({ type: "store-failed", call, error });
  }

  #tell(happening: Happening): void {
    const { onEvent } = this.#settings;
    const { destination, subscription, id } = this.#delivery;
    observe(onEvent, { destination, subscription, id, ...happening } as InboxEvent);
  }
}

const HOUR_MS = 60 * 60 * 1_000;

/** A duration as people say it. */
function days(ms: number): string {
  if (ms >= 48 * HOUR_MS) return `${Math.floor(ms / (24 * HOUR_MS))} days`;
  return ms >= HOUR_MS ? `${Math.floor(ms / HOUR_MS)} hours` : `${Math.floor(ms / 1_000)} seconds`;
}

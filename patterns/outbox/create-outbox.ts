import type { BatchEntry, Broker, Receipt } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkEntries, checkOptions, LONGEST_MS } from "../../core/checks.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { isThenable, unawaited } from "../../core/foreign.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";
import {
  asInvalid,
  encodeMessage,
  encodingFor,
  type MessageEncoding,
  type NewMessage,
} from "../../core/publish/encode-message.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { NewOutboxRow, OutboxStore } from "./store.ts";

/** Returns headers for a message that is being written. */
export type OutboxHeaders = () => Readonly<Record<string, string>>;

/** The options of {@link createOutbox}. */
export interface OutboxOptions<Transaction> {
  /** Where messages are stored. Relays use a store on the same table. */
  readonly store: OutboxStore<Transaction>;
  /**
   * The broker object that will carry the messages, or one on an adapter with the same limits. Messages that it cannot carry
   * are refused. It need not be started, and the outbox sends nothing with it.
   */
  readonly broker: Broker;
  /**
   * Returns headers for each message, for example the trace context, `traceparent`. The headers of a call override them.
   * Default: none.
   */
  readonly headers?: OutboxHeaders;
}

/**
 * Creates the writing side of an outbox. `createRelay` is the sending side. Throws `invalid` for wrong options.
 */
export function createOutbox<Transaction>(options: OutboxOptions<Transaction>): Outbox<Transaction> {
  checkOptions("createOutbox", options, ["store", "broker", "headers"]);
  const { store, broker, headers } = options;
  if (typeof store?.insert !== "function") {
    throw new MessagingError("invalid", "createOutbox { store } takes a store, such as postgresOutbox(pool)");
  }
  if (headers !== undefined && typeof headers !== "function") {
    throw new MessagingError("invalid", "createOutbox { headers } takes a function that returns headers");
  }
  return new StoreOutbox(store, new Messages(internalsOf(broker, "createOutbox { broker }"), headers));
}

/** The options of one `send` of an outbox: those of `Publisher.send`, with any delay on any broker. */
export interface OutboxSendOptions extends Omit<SendOptions, "timeoutMs" | "signal"> {}

/** The options of one `publish` of an outbox. */
export interface OutboxPublishOptions extends Omit<PublishOptions, "timeoutMs" | "signal"> {}

/**
 * Sends messages by writing them in the caller's database transaction. A relay sends committed messages, at least once and
 * under the id of the receipt. Rolled-back messages are never sent.
 *
 * Messages are checked as by the broker that will carry them, and refused with the broker's errors (`invalid`, `too-large`,
 * `unsupported`) before anything is written. A failure of the database rejects with the store's error. The transaction is
 * then in the state that the database defines: on Postgres it can only be rolled back.
 *
 * `Transaction` is the store's type: for Postgres a client with an open transaction, never a pool.
 */
export interface Outbox<Transaction> {
  /** Sends work to a queue, once the transaction is committed. */
  send<Input, Output>(
    transaction: Transaction,
    queue: Queue<Input, Output>,
    body: NoInfer<Input>,
    options?: OutboxSendOptions,
  ): Promise<Receipt>;
  /** Publishes an event to a topic, once the transaction is committed. */
  publish<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    body: NoInfer<Input>,
    options?: OutboxPublishOptions,
  ): Promise<Receipt>;
  /**
   * Writes all messages in one statement, or none: if one is refused, nothing is written, and the error names it. Resolves with
   * the receipts in order.
   */
  sendMany<Input, Output>(
    transaction: Transaction,
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, OutboxSendOptions>[],
  ): Promise<readonly Receipt[]>;
  /** Publishes events, as {@link Outbox.sendMany}. */
  publishMany<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, OutboxPublishOptions>[],
  ): Promise<readonly Receipt[]>;
}

type Options = OutboxSendOptions & OutboxPublishOptions;
type Destination = Queue<never, unknown> | Topic<never, unknown>;

class StoreOutbox<Transaction> implements Outbox<Transaction> {
  readonly #store: OutboxStore<Transaction>;
  readonly #messages: Messages;

  constructor(store: OutboxStore<Transaction>, messages: Messages) {
    this.#store = store;
    this.#messages = messages;
  }

  send<Input, Output>(
    transaction: Transaction,
    queue: Queue<Input, Output>,
    body: Input,
    options?: OutboxSendOptions,
  ): Promise<Receipt> {
    return this.#one(transaction, queue, "queue", body, options);
  }

  publish<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    body: Input,
    options?: OutboxPublishOptions,
  ): Promise<Receipt> {
    return this.#one(transaction, topic, "topic", body, options);
  }

  sendMany<Input, Output>(
    transaction: Transaction,
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<Input, OutboxSendOptions>[],
  ): Promise<readonly Receipt[]> {
    return this.#many(transaction, queue, "queue", entries);
  }

  publishMany<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<Input, OutboxPublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return this.#many(transaction, topic, "topic", entries);
  }

  /** Does as much as possible at once: all of it before it returns, on a synchronous database with a synchronous schema. */
  #one(
    transaction: Transaction,
    destination: Destination,
    kind: Destination["kind"],
    body: unknown,
    options: Options = {},
  ): Promise<Receipt> {
    try {
      const row = this.#messages.row(destination, kind, body, options);
      const write = (made: NewOutboxRow): Promise<Receipt> =>
        this.#insert(transaction, [made]).then(() => ({ id: made.id }));
      return row instanceof Promise ? row.then(write) : write(row);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #many(
    transaction: Transaction,
    destination: Destination,
    kind: Destination["kind"],
    entries: readonly BatchEntry<unknown, Options>[],
  ): Promise<readonly Receipt[]> {
    try {
      checkEntries(kind === "queue" ? "sendMany" : "publishMany", entries);
      const rows = entries.map(({ body, options }, index) => {
        const row = named(index, () => this.#messages.row(destination, kind, body, options));
        return row instanceof Promise ? row.catch((error: unknown) => named(index, () => rethrow(error))) : row;
      });
      const write = (made: readonly NewOutboxRow[]): Promise<readonly Receipt[]> =>
        this.#insert(transaction, made).then(() => made.map(({ id }) => ({ id })));
      return rows.some((row) => row instanceof Promise) ? Promise.all(rows).then(write) : write(rows as NewOutboxRow[]);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #insert(transaction: Transaction, rows: readonly NewOutboxRow[]): Promise<void> {
    if (rows.length === 0) return Promise.resolve();
    return Promise.resolve(this.#store.insert(transaction, rows));
  }
}

/** Names the entry in an error. */
function named<Result>(index: number, make: () => Result): Result {
  try {
    return make();
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    throw new MessagingError(error.code, `entry ${index}: ${error.message}. None was written`, { cause: error });
  }
}

function rethrow(error: unknown): never {
  throw error;
}

/** Encodes messages to rows with the publisher's encoder, so that outbox and broker refuse the same. */
class Messages {
  readonly #broker: BrokerInternals;
  readonly #headers: OutboxHeaders | undefined;
  readonly #targets = new WeakMap<Destination, MessageEncoding>();

  constructor(broker: BrokerInternals, headers: OutboxHeaders | undefined) {
    this.#broker = broker;
    this.#headers = headers;
  }

  /** Returns a promise only for an asynchronous schema. Throws or rejects as the broker would. */
  row(
    destination: Destination,
    kind: Destination["kind"],
    body: unknown,
    options: Options = {},
  ): NewOutboxRow | Promise<NewOutboxRow> {
    try {
      const known = destination?.kind === kind ? this.#targets.get(destination) : undefined;
      const target = known ?? this.#target(destination, kind);
      if ("timeoutMs" in options) {
        const why = "the outbox takes no timeoutMs: a relay tries until the message is sent or quarantined. Remove it";
        throw new MessagingError("invalid", `${target.where}: ${why}`);
      }
      const made = encodeMessage(target, body, this.#withHeaders(options));
      const { delayMs = 0 } = options;
      if (!(made instanceof Promise)) return rowOf(destination, made, delayMs);
      return made.then(
        (message) => rowOf(destination, message, delayMs),
        (error: unknown) => {
          throw asInvalid(error);
        },
      );
    } catch (error) {
      throw asInvalid(error);
    }
  }

  #withHeaders(options: Options): Options {
    if (this.#headers === undefined) return options;
    const common: unknown = unawaited(this.#headers());
    if (typeof common !== "object" || common === null || isThenable(common)) {
      throw new MessagingError(
        "invalid",
        "createOutbox { headers } has to return headers, and no promise. Nothing was written",
      );
    }
    return { ...options, headers: { ...common, ...options.headers } };
  }

  #target(destination: Destination, kind: Destination["kind"]): MessageEncoding {
    const { adapter, codec, clock, makeId } = this.#broker;
    const made = encodingFor(destination, kind, adapter, codec, clock, makeId);
    // Refuses names that the broker cannot carry here, and not at the relay.
    adapter.physicalName({ kind, name: destination.name });
    // The outbox delays messages itself, for any time on any broker.
    const delay = { support: "emulated", note: "the outbox keeps it until it is due", maxMs: LONGEST_MS } as const;
    const target = { ...made, capabilities: { ...made.capabilities, delay } };
    this.#targets.set(destination, target);
    return target;
  }
}

function rowOf(destination: Destination, message: NewMessage, delayMs: number): NewOutboxRow {
  const { kind, name, options } = destination;
  const { id, key, routingKey, headers, body, contentType, priority } = message;
  const expiresAt = headers[HEADER.expiresAt];
  return {
    id,
    to: { kind, name },
    key,
    routingKey,
    headers,
    body,
    contentType,
    priority,
    delayMs,
    expiresAt: expiresAt === undefined ? undefined : Number(expiresAt),
    ordered: options.ordered === true && key !== undefined,
    discardUnroutable: destination.kind === "topic" && destination.options.whenUnroutable === "discard",
  };
}

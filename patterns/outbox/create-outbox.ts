import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkEntries, checkOptions, LONGEST_MS } from "../../core/checks.ts";
import { isThenable, unawaited } from "../../core/foreign.ts";
import {
  type BatchEntry,
  HEADER,
  isMessagingError,
  MessagingError,
  type Queue,
  type Receipt,
  type Topic,
} from "../../core/index.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";
import {
  asInvalid,
  encodeMessage,
  encodingFor,
  type MessageEncoding,
  type NewMessage,
} from "../../core/publish/encode-message.ts";
import type { NewOutboxRow, OutboxStore } from "./store.ts";

/** Headers for the message that is being made. */
export type OutboxHeaders = () => Readonly<Record<string, string>>;

type Options = OutboxSendOptions & OutboxPublishOptions;

/** Makes the rows of an outbox with what makes a broker's messages, so that both refuse the same. */
class Messages {
  readonly #broker: BrokerInternals;
  readonly #headers: OutboxHeaders | undefined;
  readonly #targets = new WeakMap<Destination, MessageEncoding>();

  constructor(broker: BrokerInternals, headers: OutboxHeaders | undefined) {
    this.#broker = broker;
    this.#headers = headers;
  }

  /** A promise only where the schema is asynchronous. Throws, or rejects with, what the broker would. */
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
        const why = "the outbox takes no timeoutMs: a relay tries until it is sent or quarantined. Leave it out";
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
        "createOutbox { headers } has to return headers, at once. Nothing was written",
      );
    }
    return { ...options, headers: { ...common, ...options.headers } };
  }

  #target(destination: Destination, kind: Destination["kind"]): MessageEncoding {
    const { adapter, codec, clock, makeId } = this.#broker;
    const made = encodingFor(destination, kind, adapter, codec, clock, makeId);
    // A name that the broker cannot carry is refused here, not at the relay.
    adapter.physicalName({ kind, name: destination.name });
    // The outbox itself keeps what is not due, for as long as it takes, on any broker.
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

/** The options of {@link createOutbox}. */
export interface OutboxOptions<Transaction> {
  /** Where messages wait. The relays have one onto the same table. */
  readonly store: OutboxStore<Transaction>;
  /**
   * The broker object that messages will go to, or one on an adapter with the same limits: what it cannot carry is refused.
   * It need not be started, and nothing is sent with it here.
   */
  readonly broker: Broker;
  /**
   * Headers for every message, asked for at each call, such as the trace context: `traceparent`. What a call gives itself
   * goes before. Default: none.
   */
  readonly headers?: OutboxHeaders;
}

/**
 * Makes the writing side of an outbox. Throws `invalid` for wrong options. See `createRelay` for the other side.
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

  /** All that can be done at once is: on a synchronous database with a synchronous schema, all of it before it returns. */
  #one(
    transaction: Transaction,
    destination: Destination,
    kind: Destination["kind"],
    body: unknown,
    options: OutboxSendOptions & OutboxPublishOptions = {},
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
    entries: readonly BatchEntry<unknown, OutboxSendOptions & OutboxPublishOptions>[],
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

/** Says of an error which entry it is about. */
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

/** The options of one `send` of an outbox: those of `Publisher.send`, of any delay on any broker. */
export interface OutboxSendOptions extends Omit<SendOptions, "timeoutMs"> {}

/** The options of one `publish` of an outbox. */
export interface OutboxPublishOptions extends Omit<PublishOptions, "timeoutMs"> {}

/**
 * Sends by writing to the caller's own database transaction: what is committed is sent by a relay, at least once and under
 * the id of the receipt; what is rolled back never was.
 *
 * Everything is checked as by the broker that will carry it, and refused here with the broker's own errors (`invalid`,
 * `too-large`, `unsupported`), before anything is written. A failure of the database rejects with the store's error, and
 * leaves the transaction as the database says: on Postgres it can only be rolled back.
 *
 * `Transaction` is what the store takes: for Postgres a client with an open transaction, never a pool.
 */
export interface Outbox<Transaction> {
  /** Puts work on a queue, once the transaction is committed. */
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
   * Writes all of them in one statement, or none: if one is refused, nothing is written, and the error says which. Resolves
   * with the receipts in order.
   */
  sendMany<Input, Output>(
    transaction: Transaction,
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, OutboxSendOptions>[],
  ): Promise<readonly Receipt[]>;
  /** As {@link Outbox.sendMany}, for events. */
  publishMany<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, OutboxPublishOptions>[],
  ): Promise<readonly Receipt[]>;
}

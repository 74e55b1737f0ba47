import type { Broker } from "../../core/broker.ts";
import { internalsOf } from "../../core/broker-internals.ts";
import { checkEntries, checkOptions } from "../../core/checks.ts";
import {
  type Entry,
  isMessagingError,
  MessagingError,
  type Queue,
  type Receipt,
  type Topic,
} from "../../core/index.ts";
import { Messages, type OutboxHeaders } from "./messages.ts";
import type { Outbox, OutboxPublishOptions, OutboxSendOptions } from "./outbox.ts";
import type { NewOutboxRow, OutboxStore } from "./store.ts";

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
    entries: readonly Entry<Input, OutboxSendOptions>[],
  ): Promise<readonly Receipt[]> {
    return this.#many(transaction, queue, "queue", entries);
  }

  publishMany<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    entries: readonly Entry<Input, OutboxPublishOptions>[],
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
    entries: readonly Entry<unknown, OutboxSendOptions & OutboxPublishOptions>[],
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

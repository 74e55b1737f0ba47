import type { Entry, Queue, Receipt, Topic } from "../../core/index.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";

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
    entries: readonly Entry<NoInfer<Input>, OutboxSendOptions>[],
  ): Promise<readonly Receipt[]>;
  /** As {@link Outbox.sendMany}, for events. */
  publishMany<Input, Output>(
    transaction: Transaction,
    topic: Topic<Input, Output>,
    entries: readonly Entry<NoInfer<Input>, OutboxPublishOptions>[],
  ): Promise<readonly Receipt[]>;
}

import type { ConsumeMessage } from "amqplib";
import type {
  DeadLetterResult,
  DeliverySink,
  DeliveryToken,
  Receiver,
  Settlement,
  SettleResult,
} from "../../core/adapter.ts";
import { afterCurrentTurn } from "../../core/clock.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";
import {
  answered,
  type Connection,
  type ConnectionEvents,
  openChannel,
  SupervisedConnection,
  within,
} from "./connection.ts";
import { DeliveryCount } from "./dead-letters.ts";
import { isUnreadable, operationError, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";
import {
  consumerTimeoutIn,
  type HoldLimit,
  handlerTooLong,
  holdLimit,
  type LearnedLimit,
  limitNotice,
} from "./hold-limit.ts";
import type { Hosts, Settings } from "./options.ts";
import {
  MAX_PREFETCH,
  type MessageReader,
  ORDERED_PREFETCH,
  ReceivingChannel,
  type ReceivingSource,
} from "./receiving-channel.ts";
import { versionOf } from "./server-version.ts";

/**
 * The connection of a receiver. All receivers share one, until a message that amqplib cannot read breaks it. Then each
 * receiver gets its own connection, so that the message breaks only one.
 */
export class ReceiverLink {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #shared: () => Connection | undefined;
  #own: SupervisedConnection | undefined;

  constructor(settings: Settings, hosts: Hosts, shared: () => Connection | undefined) {
    this.#settings = settings;
    this.#hosts = hosts;
    this.#shared = shared;
  }

  get current(): Connection | undefined {
    return this.#own === undefined ? this.#shared() : this.#own.current;
  }

  get isOwn(): boolean {
    return this.#own !== undefined;
  }

  /** Opens a connection for this receiver alone, and calls `restored` each time it is connected. */
  separate(events: {
    restored(): void;
    /** A message that amqplib cannot read broke it. */
    unreadable(cause: MessagingError): void;
    notice(error: MessagingError): void;
  }): void {
    if (this.#own !== undefined) return;
    const linkEvents: ConnectionEvents = {
      prepare: () => Promise.resolve(),
      lost: (cause) => (isUnreadable(cause.cause) ? events.unreadable(cause) : events.notice(cause)),
      restored: () => events.restored(),
      refused: (error) => events.notice(error),
    };
    this.#own = new SupervisedConnection(this.#settings, this.#hosts, "consume", linkEvents);
    this.#own.start();
  }

  async close(): Promise<void> {
    await this.#own?.close();
  }
}

/** What a receiver needs from its session. */
interface ReceiverHost {
  readonly requestTimeoutMs: number;
  /** The configured consumer timeout of the server. */
  readonly consumerTimeoutMs: number | undefined;
  notice(error: MessagingError): void;
  /** The queue is gone: recreates it if that is allowed. Never rejects. */
  restore(): Promise<unknown>;
  /** Whether the queue certainly moves rejected messages to its dead letters, now. */
  deadLetters(queue: string): Promise<boolean>;
  closed(receiver: QueueReceiver): void;
}

/** The queue to receive from. */
interface ReceiverSource {
  readonly queue: string;
  readonly ordered: boolean;
  /** The most that the prefetch will ever be, as far as is known. */
  readonly maxPrefetch: number | undefined;
  readonly read: MessageReader;
  /** How long a handler may run; undefined if there is no handler. */
  readonly handlerTimeoutMs: number | undefined;
  readonly learned: LearnedLimit;
}

const RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 10_000 });
const CLOSE_MS = 5_000;

/** Receives the messages of one queue, over channels and connections, until it is closed. */
export class QueueReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #host: ReceiverHost;
  readonly #link: ReceiverLink;
  readonly #source: ReceiverSource;
  readonly #sink: DeliverySink<ConsumeMessage>;
  #prefetch: number;
  #orderedPrefetch: number;
  #channel: ReceivingChannel | undefined;
  #writing: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #subscribing = false;
  #failures = 0;
  /** How many more deliveries are taken one at a time, to find the one that breaks the connection. */
  #probation = 0;
  /** How often unreadable messages broke its own connection, since the last success. */
  #unreadable = 0;
  /** False once the queue has turned out to be no quorum queue. */
  #isQuorum = true;
  #isClosed = false;

  constructor(
    host: ReceiverHost,
    link: ReceiverLink,
    source: ReceiverSource,
    prefetch: number,
    sink: DeliverySink<ConsumeMessage>,
  ) {
    this.#host = host;
    this.#link = link;
    this.#source = source;
    this.#prefetch = prefetch;
    this.#orderedPrefetch = Math.max(ORDERED_PREFETCH, Math.min(source.maxPrefetch ?? 0, MAX_PREFETCH));
    this.#sink = sink;
  }

  /** Subscribes for the first time. Rejects if that fails. */
  async open(link: Connection): Promise<void> {
    this.#subscribing = true;
    try {
      const { queue, ordered, handlerTimeoutMs } = this.#source;
      // On an ordered queue, deliveries that are held too long are renewed.
      const refused = ordered ? undefined : handlerTooLong(queue, this.#hold(link), handlerTimeoutMs);
      if (refused !== undefined) throw refused;
      await this.#subscribe(link);
    } catch (error) {
      this.#isClosed = true;
      throw this.#refusal(error);
    } finally {
      this.#subscribing = false;
    }
  }

  /** The connection is restored. */
  resume(): void {
    if (this.#channel === undefined) this.#retryAfter(0);
  }

  /**
   * A message that amqplib cannot read broke the shared connection; it may be on this queue. Each break raises its
   * delivery count, until RabbitMQ dead-letters it. Taking messages one at a time keeps the counts of others unchanged.
   */
  separate(cause: MessagingError): void {
    if (this.#isClosed) return;
    this.#probation = this.#prefetch * 2;
    this.#link.separate({
      restored: () => this.resume(),
      unreadable: (repeated) => this.#onUnreadable(repeated),
      notice: (error) => this.#host.notice(error),
    });
    this.#sink.stalled(cause);
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#channel?.prefetch(this.#allowed());
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const results = this.#channel?.settle(batch);
    if (results === undefined) return Promise.resolve(batch.map(() => "fenced" as const));
    return this.#written().then(() => results);
  }

  /** Uses RabbitMQ's dead lettering: it accepts any size, and keeps the message until it is in the dead letters. */
  async deadLetter(token: DeliveryToken): Promise<DeadLetterResult> {
    const { queue } = this.#source;
    if (!(await this.#host.deadLetters(queue))) return { status: "refused", error: deadLetteringUnknown(queue) };
    const [result = "fenced"] = this.#channel?.settle([{ token, action: "reject" }]) ?? [];
    if (result === "settled") await this.#written();
    return { status: result };
  }

  extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map(() => true));
  }

  async caughtUp(): Promise<boolean> {
    const channel = this.#channel;
    if (channel === undefined) return false;
    const what = `answer behind the deliveries of queue "${this.#source.queue}"`;
    try {
      // A channel that is busy with large deliveries may answer late; the connection is not cut for that.
      await within(this.#host.requestTimeoutMs, what, channel.caughtUp());
      return this.#channel === channel;
    } catch {
      return false;
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    const channel = this.#channel;
    this.#channel = undefined;
    this.#host.closed(this);
    // Closing fails if the channel is closed already.
    if (channel !== undefined) await within(CLOSE_MS, "close the channel", channel.close()).catch(() => {});
    await this.#link.close();
  }

  /** Resolves once the settlements of this turn are in the socket: amqplib writes them in an immediate. */
  #written(): Promise<void> {
    this.#writing ??= new Promise((resolve) => {
      process.nextTick(() =>
        setImmediate(() => {
          this.#writing = undefined;
          resolve();
        }),
      );
    });
    return this.#writing;
  }

  async #subscribe(link: Connection): Promise<void> {
    try {
      await this.#subscribeOnce(link);
    } catch (error) {
      // Only quorum queues accept x-consumer-timeout.
      const isRefused = replyCode(error) === PRECONDITION_FAILED && /x-consumer-timeout/.test(replyText(error));
      if (!isRefused || !this.#isQuorum) throw error;
      this.#isQuorum = false;
      await this.#subscribeOnce(link);
    }
  }

  async #subscribeOnce(link: Connection): Promise<void> {
    const { requestTimeoutMs } = this.#host;
    const channel = await openChannel(link, requestTimeoutMs);
    const receiving: ReceivingChannel = new ReceivingChannel(channel, this.#from(link), this.#allowed(), {
      deliver: (batch) => this.#sink.deliver(batch),
      revoke: (tokens) => this.#sink.revoke(tokens),
      overdue: (tokens, cause) => this.#sink.overdue?.(tokens, cause),
      lost: (tokens, cause) => {
        this.#host.notice(cause);
        this.#sink.lost(tokens, cause);
      },
      ended: (cause) => {
        if (this.#channel === receiving) this.#onEnded(cause, link);
      },
      renew: () => {
        if (this.#channel !== receiving) return;
        this.#channel = undefined;
        this.#retryAfter(0);
      },
      heldBackTooMuch: (orderedPrefetch) => {
        this.#orderedPrefetch = orderedPrefetch;
      },
      progressed: (count) => this.#onProgress(count),
    });
    // Set before the start, because deliveries may arrive together with its answer.
    this.#channel = receiving;
    try {
      await answered(link, requestTimeoutMs, `consume from queue "${this.#source.queue}"`, receiving.start());
    } catch (error) {
      if (this.#channel === receiving) this.#channel = undefined;
      receiving.close().catch(() => {});
      throw error;
    }
    // The prefetch may have changed, or the receiver been closed, meanwhile.
    if (this.#isClosed) await receiving.close().catch(() => {});
    else receiving.prefetch(this.#allowed());
  }

  #from(link: Connection): ReceivingSource {
    const version = versionOf(link);
    return {
      ...this.#source,
      // To find the message that breaks the connection, no other may be delivered beside it.
      orderedPrefetch: this.#probation > 0 ? 1 : this.#orderedPrefetch,
      count: new DeliveryCount(version, this.#isQuorum),
      hold: () => this.#hold(link),
      shown: (error) => link.redactor.error(error),
    };
  }

  #hold(link: Connection): HoldLimit | undefined {
    return holdLimit(versionOf(link), this.#isQuorum, this.#host.consumerTimeoutMs, this.#source.learned.ms);
  }

  #allowed(): number {
    return this.#probation > 0 ? Math.min(1, this.#prefetch) : this.#prefetch;
  }

  #onProgress(count: number): void {
    this.#failures = 0;
    if (this.#probation === 0) return;
    this.#probation = Math.max(0, this.#probation - count);
    if (this.#probation > 0) return;
    this.#unreadable = 0;
    this.#channel?.prefetch(this.#prefetch);
  }

  #onEnded(error: MessagingError, link: Connection): void {
    this.#channel = undefined;
    const timeoutMs = consumerTimeoutIn(error.cause);
    if (timeoutMs !== undefined) this.#source.learned.ms = timeoutMs;
    const cause = timeoutMs === undefined ? error : limitNotice(this.#source.queue, timeoutMs, error.cause);
    this.#sink.lost("all", cause);
    // The end of a connection is reported to its channels first.
    afterCurrentTurn(() => {
      if (this.#isClosed || this.#subscribing || this.#channel !== undefined) return;
      // If the connection is lost, `resume` follows.
      if (this.#link.current !== link) return;
      this.#host.notice(cause);
      if (cause.code === "not-found") void this.#declareAndRetry();
      else this.#retryLater();
    });
  }

  /** The queue was deleted. Another process may have recreated it at once, without its bindings. */
  async #declareAndRetry(): Promise<void> {
    this.#subscribing = true;
    await this.#host.restore();
    this.#subscribing = false;
    if (this.#channel === undefined) this.#retryLater();
  }

  #onUnreadable(cause: MessagingError): void {
    const isFirst = this.#unreadable++ === 0;
    this.#probation = Math.max(this.#probation, this.#prefetch * 2);
    const { queue } = this.#source;
    const error = new MessagingError(
      "invalid",
      `queue "${queue}" has a message that the client library cannot read, which breaks the connection at each delivery; the consumer takes messages one at a time until RabbitMQ's delivery limit moves it to the dead letters`,
      { cause },
    );
    if (isFirst) this.#host.notice(error);
    this.#sink.stalled(error);
  }

  #retryLater(): void {
    this.#retryAfter(backoffMs(++this.#failures, RETRY));
  }

  #retryAfter(ms: number): void {
    if (this.#isClosed) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#resubscribe(), ms);
  }

  async #resubscribe(): Promise<void> {
    if (this.#subscribing || this.#channel !== undefined || this.#isClosed) return;
    const link = this.#link.current;
    // Without a connection, `resume` calls again.
    if (link === undefined) return;
    this.#subscribing = true;
    try {
      await this.#subscribe(link);
      // After an unreadable message, only the next delivery shows that it is gone.
      if (this.#unreadable === 0 && this.#channel !== undefined) this.#sink.flowing();
    } catch (error) {
      const refusal = this.#refusal(error);
      if (!this.#isClosed) this.#sink.stalled(refusal);
      if (refusal.code === "not-found") await this.#host.restore();
    } finally {
      this.#subscribing = false;
    }
    if (this.#channel === undefined) this.#retryLater();
  }

  #refusal(error: unknown): MessagingError {
    if (isMessagingError(error)) return error;
    return operationError(error, `consume from queue "${this.#source.queue}"`, DECLARE_IT);
  }
}

/** A queue without dead lettering would drop a rejected message. */
function deadLetteringUnknown(queue: string): MessagingError {
  return new MessagingError(
    "unsupported",
    `the message cannot be copied, and it is not certain that queue "${queue}" dead-letters rejected messages; start with declare: "create" and the permissions for it, and with the arguments that the queue has`,
  );
}

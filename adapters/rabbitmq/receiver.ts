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
import { answered, type Connection, type LinkEvents, openChannel, SupervisedConnection, within } from "./connection.ts";
import { DeliveryCount } from "./dead-letters.ts";
import { isUnreadable, operationError, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";
import {
  type HoldLimit,
  holdLimit,
  type LearnedLimit,
  limitLearned,
  toldByServer,
  tooLongToHold,
} from "./hold-limit.ts";
import type { Hosts, Settings } from "./options.ts";
import { type MessageReader, ORDERED_PREFETCH, ReceivingChannel, type ReceivingSource } from "./receiving-channel.ts";
import { type ServerVersion, serverVersion } from "./server-version.ts";

/**
 * The connection that a receiver consumes on: the one all share, until a message came in that amqplib cannot read and
 * that broke it for all. From then on each receiver has its own, so that the message breaks only the one it comes to.
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

  /** Makes a connection of its own, and calls `restored` each time that it stands. */
  separate(events: {
    restored(): void;
    /** It broke on a message that amqplib cannot read. */
    unreadable(cause: MessagingError): void;
    notice(error: MessagingError): void;
  }): void {
    if (this.#own !== undefined) return;
    const linkEvents: LinkEvents = {
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

/** What a receiver needs of the adapter around it. */
interface ReceiverHost {
  readonly requestTimeoutMs: number;
  /** How long the server lets a delivery be held, as far as people told. */
  readonly consumerTimeoutMs: number | undefined;
  notice(error: MessagingError): void;
  /** The queue is gone: makes it again if declaring is allowed. Never rejects. */
  restore(): Promise<unknown>;
  /** Whether it is certain that a queue moves what is rejected to its dead letters. */
  deadLetters(queue: string): boolean;
  closed(receiver: QueueReceiver): void;
}

/** What a receiver takes from, and how. */
interface ReceiverSource {
  readonly queue: string;
  readonly ordered: boolean;
  readonly read: MessageReader;
  /** How long a handler may run; undefined where there is none. */
  readonly handlerTimeoutMs: number | undefined;
  readonly learned: LearnedLimit;
}

const RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 10_000 });
const CLOSE_MS = 5_000;

/** Takes messages of one queue for as long as it is not closed, over channels and connections. */
export class QueueReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #host: ReceiverHost;
  readonly #link: ReceiverLink;
  readonly #source: ReceiverSource;
  readonly #sink: DeliverySink<ConsumeMessage>;
  #prefetch: number;
  #orderedPrefetch = ORDERED_PREFETCH;
  #channel: ReceivingChannel | undefined;
  #writing: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #subscribing = false;
  #failures = 0;
  /** How many more deliveries are taken one at a time, to find the one that breaks the connection. */
  #probation = 0;
  /** How often its own connection broke on one, since all was well. */
  #unreadable = 0;
  /** False once the queue has shown that it is of another kind. */
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
    this.#sink = sink;
  }

  /** The first subscription. Rejects if it fails. */
  async open(link: Connection): Promise<void> {
    this.#subscribing = true;
    try {
      const { queue, ordered, handlerTimeoutMs } = this.#source;
      // In order what is held for too long is renewed.
      const refused = ordered ? undefined : tooLongToHold(queue, this.#hold(link), handlerTimeoutMs);
      if (refused !== undefined) throw refused;
      await this.#subscribe(link);
    } catch (error) {
      this.#isClosed = true;
      throw this.#refusal(error);
    } finally {
      this.#subscribing = false;
    }
  }

  /** A connection stands again. */
  resume(): void {
    if (this.#channel === undefined) this.#retryAfter(0);
  }

  /**
   * The shared connection broke on a message that amqplib cannot read, perhaps one of this queue. Each time that this
   * happens its delivery count rises, until RabbitMQ moves it to the dead letters; taken alone, it takes no others along.
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

  /** By RabbitMQ's own dead lettering, which keeps the message until the dead letters have it, and takes any size. */
  async deadLetter(token: DeliveryToken): Promise<DeadLetterResult> {
    const { queue } = this.#source;
    if (!this.#host.deadLetters(queue)) return { status: "refused", error: unknownDeadLettering(queue) };
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
      // A channel that is busy with large deliveries may be late, and is no reason to end the connection.
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
    // It fails where the channel is gone already, which is what was wanted.
    if (channel !== undefined) await within(CLOSE_MS, "close the channel", channel.close()).catch(() => {});
    await this.#link.close();
  }

  /** What was settled in this turn is with the socket: amqplib hands it over in an immediate that a tick schedules. */
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
      // Only quorum queues take it.
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
    // Before it starts, for the first deliveries may come with the answer.
    this.#channel = receiving;
    try {
      await answered(link, requestTimeoutMs, `consume from queue "${this.#source.queue}"`, receiving.start());
    } catch (error) {
      if (this.#channel === receiving) this.#channel = undefined;
      receiving.close().catch(() => {});
      throw error;
    }
    // Set or closed meanwhile.
    if (this.#isClosed) await receiving.close().catch(() => {});
    else receiving.prefetch(this.#allowed());
  }

  #from(link: Connection): ReceivingSource {
    const version = versionOf(link);
    return {
      ...this.#source,
      // While one message is sought that breaks the connection, none may stand beside it.
      orderedPrefetch: this.#probation > 0 ? 1 : this.#orderedPrefetch,
      count: new DeliveryCount(version, this.#isQuorum),
      hold: () => this.#hold(link),
      shown: (error) => link.words.error(error),
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
    const told = toldByServer(error.cause);
    if (told !== undefined) this.#source.learned.ms = told;
    const cause = told === undefined ? error : limitLearned(this.#source.queue, told, error.cause);
    this.#sink.lost("all", cause);
    // The end of a connection is told to its channels first.
    afterCurrentTurn(() => {
      if (this.#isClosed || this.#subscribing || this.#channel !== undefined) return;
      // Where the connection itself is gone, `resume` follows.
      if (this.#link.current !== link) return;
      this.#host.notice(cause);
      if (cause.code === "not-found") void this.#declareAndRetry();
      else this.#retryLater();
    });
  }

  /** The queue was deleted. Somebody may have made it again at once, without what is bound to it. */
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
      `queue "${queue}" holds a message that the client cannot read, which breaks the connection at each delivery; it is taken alone until RabbitMQ's delivery limit moves it to the dead letters`,
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
    // Without one, `resume` calls again.
    if (link === undefined) return;
    this.#subscribing = true;
    try {
      await this.#subscribe(link);
      // After a message that breaks the connection only the next delivery tells that it is past.
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

function versionOf({ model }: Connection): ServerVersion {
  return serverVersion(model.connection.serverProperties.version);
}

/** A queue that dead-letters nothing drops what is rejected. */
function unknownDeadLettering(queue: string): MessagingError {
  return new MessagingError(
    "unsupported",
    `it is too large to be copied, and RabbitMQ itself moves it to the dead letters only where that is certain: start with declare: "create" and the rights for it, so that the arguments of queue "${queue}" are known`,
  );
}

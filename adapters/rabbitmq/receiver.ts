import type { ConsumeMessage } from "amqplib";
import type { DeliverySink, Receiver, Settlement, SettleResult } from "../../core/adapter.ts";
import { isMessagingError, type MessagingError } from "../../core/errors.ts";
import { answered, openChannel } from "./channels.ts";
import { within } from "./deadline.ts";
import { operationError } from "./errors.ts";
import type { Link } from "./link.ts";
import { ReceivingChannel } from "./receiving-channel.ts";

/** What a receiver needs of the adapter around it. */
export interface ReceiverHost {
  readonly requestTimeoutMs: number;
  /** The connection to consume on, while one stands. */
  link(): Link | undefined;
  notice(error: MessagingError): void;
  /** The queue is gone: makes it again if declaring is allowed. Never rejects. */
  restore(): Promise<void>;
  closed(receiver: QueueReceiver): void;
}

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 10_000;
const CLOSE_MS = 5_000;

/** Takes messages of one queue for as long as it is not closed, over channels and connections. */
export class QueueReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #host: ReceiverHost;
  readonly #queue: string;
  readonly #ordered: boolean;
  readonly #sink: DeliverySink<ConsumeMessage>;
  #window: number;
  #channel: ReceivingChannel | undefined;
  #retry: NodeJS.Timeout | undefined;
  #subscribing = false;
  #failures = 0;
  #isClosed = false;

  constructor(
    host: ReceiverHost,
    queue: string,
    options: { readonly ordered: boolean; readonly window: number },
    sink: DeliverySink<ConsumeMessage>,
  ) {
    this.#host = host;
    this.#queue = queue;
    this.#ordered = options.ordered;
    this.#window = options.window;
    this.#sink = sink;
  }

  /** The first subscription. Rejects if it fails. */
  async open(link: Link): Promise<void> {
    this.#subscribing = true;
    try {
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

  window(count: number): void {
    this.#window = count;
    this.#channel?.window(count);
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return Promise.resolve(this.#channel?.settle(batch) ?? batch.map(() => "fenced" as const));
  }

  extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map(() => true));
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
  }

  async #subscribe(link: Link): Promise<void> {
    const channel = await openChannel(link, this.#host.requestTimeoutMs);
    const receiving: ReceivingChannel = new ReceivingChannel(channel, this.#queue, this.#ordered, this.#window, {
      deliver: (batch) => this.#sink.deliver(batch),
      ended: (cause) => {
        if (this.#channel === receiving) this.#onEnded(cause, link);
      },
      renew: () => {
        if (this.#channel !== receiving) return;
        this.#channel = undefined;
        this.#retryAfter(0);
      },
      progressed: () => {
        this.#failures = 0;
      },
    });
    // Before it starts, for the first deliveries may come with the answer.
    this.#channel = receiving;
    try {
      await answered(link, this.#host.requestTimeoutMs, `consume from queue "${this.#queue}"`, receiving.start());
    } catch (error) {
      if (this.#channel === receiving) this.#channel = undefined;
      receiving.close().catch(() => {});
      throw error;
    }
    // A window set meanwhile.
    if (this.#channel === receiving) receiving.window(this.#window);
    if (this.#isClosed) await receiving.close().catch(() => {});
  }

  #onEnded(cause: MessagingError, link: Link): void {
    this.#channel = undefined;
    this.#sink.lost("all", cause);
    if (this.#isClosed || this.#subscribing) return;
    // With the connection itself, the adapter reports its loss.
    if (this.#host.link() === link) {
      this.#host.notice(cause);
      this.#retryLater();
    }
  }

  #retryLater(): void {
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#failures++, 20));
    this.#retryAfter(longest * (0.5 + Math.random() / 2));
  }

  #retryAfter(ms: number): void {
    if (this.#isClosed) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#resubscribe(), ms);
  }

  async #resubscribe(): Promise<void> {
    if (this.#subscribing || this.#channel !== undefined || this.#isClosed) return;
    const link = this.#host.link();
    // Without one, `resume` calls again.
    if (link === undefined) return;
    this.#subscribing = true;
    try {
      await this.#subscribe(link);
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
    return operationError(
      error,
      `consume from queue "${this.#queue}"`,
      'declare it by starting with declare "create", or have it declared',
    );
  }
}

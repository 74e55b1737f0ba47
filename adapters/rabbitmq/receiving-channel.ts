import type { Channel, ConsumeMessage } from "amqplib";
import type { IncomingMessage, Settlement, SettleResult } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { replyText } from "./errors.ts";
import { Unsettled } from "./unsettled.ts";
import { incoming } from "./wire.ts";

/** One consumer on the channel. RabbitMQ sets a prefetch when a consumer begins, for good. */
interface Slot {
  readonly prefetch: number;
  consumerTag: string;
  /** A cancelled one takes nothing more; what it took stays ours until settled. */
  active: boolean;
  unsettled: number;
}

/** What the engine holds for a delivery. Of another channel than the one that lives it is void. */
interface Token {
  readonly channel: ReceivingChannel;
  readonly tag: number;
}

export interface ReceivingEvents {
  deliver(batch: readonly IncomingMessage<ConsumeMessage>[]): void;
  /** The channel is gone or useless, and every unsettled delivery with it. Called once. */
  ended(cause: MessagingError): void;
  /** Nothing is unsettled, and a wider window needs a new channel. Called once, instead of `ended`. */
  renew(): void;
  /** A delivery was settled: the channel works. */
  progressed(): void;
}

/** AMQP writes a prefetch in 16 bits. */
const WIDEST = 65_535;
/** With so many consumers on one channel they are replaced by one. */
const MOST_SLOTS = 8;

/**
 * Takes messages of one queue on one channel, never more unsettled than the window allows, until the channel ends.
 *
 * The window is widened by one more consumer with the difference as prefetch, and narrowed by cancelling all and starting
 * one with what is free. An ordered queue serves one consumer at a time, and would turn to another process on a cancel
 * while this one still holds messages; so there the one consumer stays, what comes over the window is held back here, and
 * a window wider than its prefetch takes a new channel as soon as nothing is unsettled.
 */
export class ReceivingChannel {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #ordered: boolean;
  readonly #events: ReceivingEvents;
  readonly #unsettled: Unsettled<Slot>;
  #slots: Slot[] = [];
  #window: number;
  #orphans = 0;
  #adjusting = false;
  #over = false;
  #gathered: IncomingMessage<ConsumeMessage>[] = [];
  #heldBack: ConsumeMessage[] = [];

  constructor(channel: Channel, queue: string, ordered: boolean, window: number, events: ReceivingEvents) {
    this.#channel = channel;
    this.#queue = queue;
    this.#ordered = ordered;
    this.#window = Math.min(window, WIDEST);
    this.#events = events;
    this.#unsettled = new Unsettled(channel);
    let cause: unknown;
    channel.on("error", (error) => {
      cause = error;
    });
    channel.on("close", () => this.#end(closedError(queue, cause)));
  }

  /** Begins to take. Rejects if the broker refuses. */
  async start(): Promise<void> {
    if (this.#window > 0) await this.#addSlot(this.#window);
  }

  window(count: number): void {
    this.#window = Math.min(count, WIDEST);
    this.#passOn();
    void this.#adjust();
  }

  settle(batch: readonly Settlement[]): readonly SettleResult[] {
    const results: SettleResult[] = [];
    const acks: number[] = [];
    const releases: number[] = [];
    for (const { token, action } of batch) {
      const { channel, tag } = token as Token;
      const slot = channel === this && !this.#over ? this.#unsettled.take(tag) : undefined;
      if (slot === undefined) {
        results.push("fenced");
        continue;
      }
      slot.unsettled--;
      if (!slot.active) this.#orphans--;
      (action === "ack" ? acks : releases).push(tag);
      results.push("settled");
    }
    if (acks.length === 0 && releases.length === 0) return results;
    try {
      this.#unsettled.write(acks, releases);
    } catch {
      // The channel is closing: the broker takes all of them back.
      return results.map(() => "fenced");
    }
    this.#events.progressed();
    this.#passOn();
    void this.#adjust();
    return results;
  }

  /** Gives everything unsettled back to the broker. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#gathered = [];
    this.#heldBack = [];
    await this.#channel.close();
  }

  #end(cause: MessagingError): void {
    if (this.#over) return;
    this.close().catch(() => {});
    this.#events.ended(cause);
  }

  /** Brings the consumers in line with the window, one change at a time. */
  async #adjust(): Promise<void> {
    if (this.#adjusting || this.#over) return;
    this.#adjusting = true;
    try {
      if (this.#ordered) await this.#adjustOrdered();
      else while (!this.#over && (await this.#adjustOnce()));
    } catch {
      // The broker refused or the connection broke: the channel's end, which is reported by its events.
    } finally {
      this.#adjusting = false;
    }
  }

  async #adjustOnce(): Promise<boolean> {
    const granted = this.#slots.reduce((sum, slot) => sum + slot.prefetch, 0);
    const free = this.#window - granted - this.#orphans;
    if (granted > 0 && (granted > this.#window || free < 0)) {
      await this.#cancelAll();
      return true;
    }
    // Not for every single delivery settled: each step costs two requests and a consumer.
    if (free <= 0 || (granted > 0 && free < Math.max(1, this.#window >> 3))) return false;
    if (this.#slots.length >= MOST_SLOTS) await this.#cancelAll();
    else await this.#addSlot(free);
    return true;
  }

  async #adjustOrdered(): Promise<void> {
    const [slot] = this.#slots;
    if (slot === undefined) {
      if (this.#window > 0) await this.#addSlot(this.#window);
    } else if (slot.prefetch < this.#window && this.#unsettled.size === this.#heldBack.length) {
      this.#over = true;
      this.#heldBack = [];
      await this.#channel.close();
      this.#events.renew();
    }
  }

  async #addSlot(prefetch: number): Promise<void> {
    const slot: Slot = { prefetch, consumerTag: "", active: true, unsettled: 0 };
    this.#slots.push(slot);
    const prefetched = this.#channel.prefetch(prefetch, false);
    const consuming = this.#channel.consume(this.#queue, (message) => this.#onMessage(slot, message));
    await prefetched;
    slot.consumerTag = (await consuming).consumerTag;
  }

  async #cancelAll(): Promise<void> {
    const slots = this.#slots;
    this.#slots = [];
    await Promise.all(slots.map((slot) => this.#channel.cancel(slot.consumerTag)));
    for (const slot of slots) {
      slot.active = false;
      this.#orphans += slot.unsettled;
    }
  }

  #onMessage(slot: Slot, message: ConsumeMessage | null): void {
    if (this.#over) return;
    if (message === null) {
      this.#end(cancelledError(this.#queue));
      return;
    }
    slot.unsettled++;
    this.#unsettled.add(message.fields.deliveryTag, slot);
    if (this.#ordered && this.#mustHoldBack()) this.#heldBack.push(message);
    else this.#gather(message);
  }

  /** Whether an ordered delivery that was just counted is one too many, or behind one that is. */
  #mustHoldBack(): boolean {
    return this.#heldBack.length > 0 || this.#unsettled.size > this.#room();
  }

  /** On an ordered queue the window, or 0 until a wider one has its new channel. */
  #room(): number {
    const [slot] = this.#slots;
    return slot !== undefined && slot.prefetch < this.#window ? 0 : this.#window;
  }

  #passOn(): void {
    while (this.#heldBack.length > 0 && this.#unsettled.size - this.#heldBack.length < this.#room()) {
      this.#gather(this.#heldBack.shift() as ConsumeMessage);
    }
  }

  /** amqplib gives every message of one read from the socket in one turn; they go on together. */
  #gather(message: ConsumeMessage): void {
    if (this.#gathered.length === 0) queueMicrotask(() => this.#flush());
    const token: Token = { channel: this, tag: message.fields.deliveryTag };
    this.#gathered.push(incoming(message, token));
  }

  #flush(): void {
    const batch = this.#gathered;
    if (batch.length === 0) return;
    this.#gathered = [];
    this.#events.deliver(batch);
  }
}

function closedError(queue: string, cause: unknown): MessagingError {
  const reason = cause === undefined ? "the connection is gone" : replyText(cause);
  return new MessagingError(
    "unreachable",
    `the consumer of queue "${queue}" lost its channel: ${reason}; subscribing again`,
    {
      cause,
    },
  );
}

function cancelledError(queue: string): MessagingError {
  return new MessagingError(
    "not-found",
    `RabbitMQ cancelled the consumer of queue "${queue}": the queue was deleted or moved, or a delivery was held longer than the server's consumer timeout; subscribing again`,
  );
}

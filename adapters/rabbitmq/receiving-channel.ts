import type { Channel, ConsumeMessage } from "amqplib";
import type { DeliveryToken, IncomingMessage, SettleResult } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { replyText } from "./errors.ts";
import { Unsettled } from "./unsettled.ts";

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

/** What becomes of a delivery. What is rejected the queue moves to its dead letters, if it has some, and drops otherwise. */
export interface ChannelSettlement {
  readonly token: DeliveryToken;
  readonly action: "ack" | "release" | "reject";
}

/** Turns a delivery into anybroker's terms. */
export type MessageReader = (message: ConsumeMessage, token: DeliveryToken) => IncomingMessage<ConsumeMessage>;

/** What is taken from, and how. */
export interface ReceivingSource {
  readonly queue: string;
  readonly ordered: boolean;
  /** The least prefetch where it is ordered. */
  readonly orderedPrefetch: number;
  readonly read: MessageReader;
}

export interface ReceivingEvents {
  deliver(batch: readonly IncomingMessage<ConsumeMessage>[]): void;
  /** The channel is gone or useless, and every unsettled delivery with it. Called once. */
  ended(cause: MessagingError): void;
  /** Nothing is unsettled, and a wider window wants a new channel. Called once, instead of `ended`. */
  renew(): void;
  /**
   * An ordered queue's messages are so large that fewer may be held back. Called once, before `ended`; the next channel is
   * to have this least prefetch.
   */
  heldBackTooMuch(orderedPrefetch: number): void;
  /** Deliveries were settled: the channel works. */
  progressed(count: number): void;
}

/** AMQP writes a prefetch in 16 bits. */
const WIDEST = 65_535;
/** With so many consumers on one channel they are replaced by one. */
const MOST_SLOTS = 8;
/** The least prefetch of an ordered queue's one consumer: what the window may grow to without a new channel. */
export const ORDERED_PREFETCH = 256;
/** The most bytes held back over the window of an ordered queue. */
const MOST_HELD_BACK_BYTES = 32 * 1024 * 1024;

/**
 * Takes messages of one queue on one channel, never more unsettled than the window allows, until the channel ends.
 *
 * The window is widened by one more consumer with the difference as prefetch, and narrowed by cancelling all and starting
 * one with what is free. An ordered queue serves one consumer at a time, and would turn to another process on a cancel
 * while this one still holds messages. So there the one consumer stays, what comes over the window is held back here, and
 * a window wider than its prefetch waits for a moment with nothing unsettled, to take a new channel.
 */
export class ReceivingChannel {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #ordered: boolean;
  readonly #orderedPrefetch: number;
  readonly #read: MessageReader;
  readonly #events: ReceivingEvents;
  readonly #unsettled: Unsettled<Slot>;
  #slots: Slot[] = [];
  #window: number;
  #orphans = 0;
  #adjusting = false;
  #over = false;
  #gathered: IncomingMessage<ConsumeMessage>[] = [];
  #heldBack: ConsumeMessage[] = [];
  #heldBackBytes = 0;

  constructor(channel: Channel, from: ReceivingSource, window: number, events: ReceivingEvents) {
    const { queue } = from;
    this.#channel = channel;
    this.#queue = queue;
    this.#ordered = from.ordered;
    this.#orderedPrefetch = from.orderedPrefetch;
    this.#read = from.read;
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
    if (this.#window > 0) await this.#addSlot(this.#firstPrefetch());
  }

  window(count: number): void {
    this.#window = Math.min(count, WIDEST);
    this.#passOn();
    if (this.#nextChange() !== undefined) void this.#adjust();
  }

  settle(batch: readonly ChannelSettlement[]): readonly SettleResult[] {
    const results: SettleResult[] = [];
    const tags: Record<ChannelSettlement["action"], number[]> = { ack: [], release: [], reject: [] };
    let settled = 0;
    for (const { token, action } of batch) {
      const { channel, tag } = token as Token;
      const slot = channel === this && !this.#over ? this.#unsettled.take(tag) : undefined;
      if (slot === undefined) {
        results.push("fenced");
        continue;
      }
      slot.unsettled--;
      if (!slot.active) this.#orphans--;
      tags[action].push(tag);
      settled++;
      results.push("settled");
    }
    if (settled === 0) return results;
    try {
      this.#unsettled.write(tags.ack, tags.release, tags.reject);
    } catch {
      // The channel is closing: the broker takes all of them back.
      return results.map(() => "fenced");
    }
    this.#events.progressed(settled);
    this.#passOn();
    if (this.#nextChange() !== undefined) void this.#adjust();
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
    if (this.#adjusting) return;
    this.#adjusting = true;
    try {
      for (let change = this.#nextChange(); change !== undefined; change = this.#nextChange()) await change();
    } catch {
      // The broker refused or the connection broke: the channel's end, which is reported by its events.
    } finally {
      this.#adjusting = false;
    }
  }

  #nextChange(): (() => Promise<void>) | undefined {
    if (this.#over) return undefined;
    return this.#ordered ? this.#nextOrderedChange() : this.#nextUnorderedChange();
  }

  #nextUnorderedChange(): (() => Promise<void>) | undefined {
    let granted = 0;
    for (const slot of this.#slots) granted += slot.prefetch;
    const free = this.#window - granted - this.#orphans;
    if (granted > 0 && free < 0) return () => this.#cancelAll();
    if (free <= 0) return undefined;
    // What cancelled consumers held comes free one by one; a quarter of the window is worth a new consumer.
    if (granted > 0 && this.#orphans > 0 && free < this.#window >> 2) return undefined;
    return this.#slots.length < MOST_SLOTS ? () => this.#addSlot(free) : () => this.#cancelAll();
  }

  #nextOrderedChange(): (() => Promise<void>) | undefined {
    const [slot] = this.#slots;
    if (slot === undefined) return this.#window > 0 ? () => this.#addSlot(this.#firstPrefetch()) : undefined;
    return slot.prefetch < this.#window && this.#unsettled.size === 0 ? () => this.#renew() : undefined;
  }

  async #renew(): Promise<void> {
    await this.close();
    this.#events.renew();
  }

  #firstPrefetch(): number {
    return this.#ordered ? Math.max(this.#window, this.#orderedPrefetch) : this.#window;
  }

  async #addSlot(prefetch: number): Promise<void> {
    const slot: Slot = { prefetch, consumerTag: "", active: true, unsettled: 0 };
    this.#slots.push(slot);
    const prefetched = this.#channel.prefetch(prefetch, false);
    const consuming = this.#channel.consume(this.#queue, (message) => this.#onMessage(slot, message));
    // Both at once: where the connection breaks both reject, and either alone would be nobody's.
    const [, { consumerTag }] = await Promise.all([prefetched, consuming]);
    slot.consumerTag = consumerTag;
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
    // Over the window, or behind one that is.
    const tooMany = this.#heldBack.length > 0 || this.#unsettled.size > this.#window;
    if (this.#ordered && tooMany) this.#holdBack(message);
    else this.#gather(message);
  }

  #holdBack(message: ConsumeMessage): void {
    this.#heldBack.push(message);
    this.#heldBackBytes += message.content.length;
    if (this.#heldBackBytes <= MOST_HELD_BACK_BYTES) return;
    // A cancel would let another process go on while this one holds messages; the end of the channel gives back all.
    this.#events.heldBackTooMuch(this.#heldBack.length >> 1);
    this.#end(tooMuchError(this.#queue));
  }

  #passOn(): void {
    while (this.#heldBack.length > 0 && this.#unsettled.size - this.#heldBack.length < this.#window) {
      const message = this.#heldBack.shift() as ConsumeMessage;
      this.#heldBackBytes -= message.content.length;
      this.#gather(message);
    }
  }

  /** amqplib gives every message of one read from the socket in one turn; they go on together. */
  #gather(message: ConsumeMessage): void {
    if (this.#gathered.length === 0) queueMicrotask(() => this.#flush());
    const token: Token = { channel: this, tag: message.fields.deliveryTag };
    this.#gathered.push(this.#read(message, token));
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

function tooMuchError(queue: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `the ordered queue "${queue}" has messages so large that its consumer begins anew with fewer in memory`,
  );
}

function cancelledError(queue: string): MessagingError {
  return new MessagingError(
    "not-found",
    `RabbitMQ cancelled the consumer of queue "${queue}": the queue was deleted or moved, or a delivery was held longer than the server's consumer timeout; subscribing again`,
  );
}

import type { Channel, ConsumeMessage } from "amqplib";
import type { DeliveryToken, IncomingMessage, Settlement, SettleResult } from "../../core/adapter.ts";
import { afterCurrentTurn } from "../../core/clock.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { DeliveryCount } from "./dead-letters.ts";
import {
  cancelledError,
  closedError,
  isOverPrefetch,
  notBackError,
  overPrefetchError,
  tooMuchError,
} from "./errors.ts";
import { HoldReview, type Reviewed, type ReviewedSource } from "./hold-limit.ts";
import { messageId } from "./message-codec.ts";
import { Unsettled } from "./unsettled.ts";

interface Entry<Token> {
  readonly token: Token;
  readonly id: string;
  readonly since: number;
  /** What the engine decided meanwhile. */
  action: "ack" | undefined;
}

/**
 * Deliveries that were given back to be delivered to the same consumer again, by the ids of their messages: nothing else
 * of a delivery is the same when it comes back.
 */
class Returning<Token extends { readonly message: ConsumeMessage }> {
  readonly #entries = new Map<Token, Entry<Token>>();
  readonly #byId = new Map<string, Entry<Token>[]>();

  get size(): number {
    return this.#entries.size;
  }

  add(token: Token): void {
    const id = messageId(token.message);
    const entry: Entry<Token> = { token, id, since: performance.now(), action: undefined };
    this.#entries.set(token, entry);
    const twins = this.#byId.get(id);
    if (twins === undefined) this.#byId.set(id, [entry]);
    else twins.push(entry);
  }

  /** The delivery that came back with this message, and what is to be done with it; undefined if it is another one. */
  take(message: ConsumeMessage): { readonly token: Token; readonly action: "ack" | undefined } | undefined {
    if (this.#entries.size === 0) return undefined;
    const entry = this.#byId.get(messageId(message))?.[0];
    if (entry === undefined) return undefined;
    this.#remove(entry);
    return entry;
  }

  /** Settles one that is away; false if it is not, or was settled before. A requeued one comes back as another. */
  settle(token: Token, action: Settlement["action"]): boolean {
    const entry = this.#entries.get(token);
    if (entry === undefined || entry.action !== undefined) return false;
    if (action === "ack") entry.action = "ack";
    else this.#remove(entry);
    return true;
  }

  /** Takes out what was given back before a moment; the result is what of it is not settled. */
  removeOlder(than: number): readonly Token[] {
    const unsettled: Token[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.since > than) break;
      this.#remove(entry);
      if (entry.action === undefined) unsettled.push(entry.token);
    }
    return unsettled;
  }

  #remove(entry: Entry<Token>): void {
    this.#entries.delete(entry.token);
    const twins = this.#byId.get(entry.id)?.filter((twin) => twin !== entry);
    if (twins === undefined || twins.length === 0) this.#byId.delete(entry.id);
    else this.#byId.set(entry.id, twins);
  }
}

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
  message: ConsumeMessage;
  /** It was given back to learn what of its count is this queue's, and does not go on before it is here again. */
  isDoubtful: boolean;
  /** Another one after it was renewed; undefined while it is on its way back from that, and when it is settled. */
  tag: number | undefined;
}

/** A delivery that is unsettled. */
interface Delivery extends Reviewed<Token> {
  readonly slot: Slot;
}

/** What becomes of a delivery. What is rejected the queue moves to its dead letters, if it has some, and drops otherwise. */
interface ChannelSettlement {
  readonly token: DeliveryToken;
  readonly action: "ack" | "requeue" | "reject";
}

/** Turns a delivery into anybroker's terms. */
export type MessageReader = (
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
) => IncomingMessage<ConsumeMessage>;

/** What is taken from, and how. */
export interface ReceivingSource extends ReviewedSource {
  /** The least prefetch where it is ordered. */
  readonly orderedPrefetch: number;
  readonly read: MessageReader;
  readonly count: DeliveryCount;
  /** An error of the client library, as it may be shown and kept. */
  readonly shown: (error: unknown) => unknown;
}

interface ReceivingEvents {
  deliver(batch: readonly IncomingMessage<ConsumeMessage>[]): void;
  /** The channel is gone or useless, and every unsettled delivery with it. Called once. */
  ended(cause: MessagingError): void;
  /** Nothing is unsettled, and a wider prefetch wants a new channel. Called once, instead of `ended`. */
  renew(): void;
  /**
   * An ordered queue's messages are so large that fewer may be held back. Called once, before `ended`; the next channel is
   * to have this least prefetch.
   */
  heldBackTooMuch(orderedPrefetch: number): void;
  /** Deliveries were settled: the channel works. */
  progressed(count: number): void;
  /** Deliveries that no handler was started for are to be given back, for too little time would be left for it. */
  revoke(tokens: readonly DeliveryToken[]): void;
  /** Deliveries are held for too long and cannot be renewed: RabbitMQ takes them back within a moment. */
  overdue(tokens: readonly DeliveryToken[], cause: MessagingError): void;
  /** Deliveries that were to be renewed did not come back. */
  lost(tokens: readonly DeliveryToken[], cause: MessagingError): void;
}

/** AMQP writes a prefetch in 16 bits. */
const WIDEST = 65_535;
/** With so many consumers on one channel they are replaced by one. */
const MOST_SLOTS = 8;
/** The least prefetch of an ordered queue's one consumer: what the prefetch may grow to without a new channel. */
export const ORDERED_PREFETCH = 256;
/** The most bytes held back over the prefetch of an ordered queue. */
const MOST_HELD_BACK_BYTES = 32 * 1024 * 1024;

/**
 * Takes messages of one queue on one channel, never more unsettled than the prefetch allows, until the channel ends.
 *
 * The prefetch is widened by one more consumer with the difference as prefetch, and narrowed by cancelling all and starting
 * one with what is free. An ordered queue serves one consumer at a time, and would turn to another process on a cancel
 * while this one still holds messages. So there the one consumer stays, what comes over the prefetch is held back here, and
 * a prefetch wider than its prefetch waits for a moment with nothing unsettled, to take a new channel.
 *
 * RabbitMQ takes back what is held for too long. What comes near that is given back before, if it is of an ordered queue:
 * then it comes to this consumer again, at once, and goes on in its old place, whether its handler runs or it waits. On
 * an unordered queue it might come to another consumer while its handler runs here; there the engine is told to end it.
 */
export class ReceivingChannel {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #ordered: boolean;
  readonly #orderedPrefetch: number;
  readonly #read: MessageReader;
  readonly #events: ReceivingEvents;
  readonly #unsettled: Unsettled<Delivery>;
  readonly #count: DeliveryCount;
  readonly #from: ReceivingSource;
  /** What was given back to be renewed. */
  readonly #returning = new Returning<Token>();
  readonly #review: HoldReview<Delivery, Token>;
  #slots: Slot[] = [];
  #prefetch: number;
  #orphans = 0;
  #adjusting = false;
  #over = false;
  #gathered: IncomingMessage<ConsumeMessage>[] = [];
  #heldBack: Token[] = [];
  #heldBackBytes = 0;

  constructor(channel: Channel, from: ReceivingSource, prefetch: number, events: ReceivingEvents) {
    const { queue } = from;
    this.#channel = channel;
    this.#queue = queue;
    this.#ordered = from.ordered;
    this.#orderedPrefetch = from.orderedPrefetch;
    this.#read = from.read;
    this.#count = from.count;
    this.#from = from;
    this.#unsettled = new Unsettled(channel);
    this.#review = new HoldReview(from, this.#unsettled, this.#returning, {
      revoke: (tokens) => events.revoke(tokens),
      overdue: (tokens, cause) => events.overdue(tokens, cause),
      renew: (due) => this.#renewAll(due),
      lost: (late) => this.#loseAll(late),
    });
    this.#prefetch = Math.min(prefetch, WIDEST);
    this.#events = events;
    let cause: unknown;
    channel.on("error", (error) => {
      cause = from.shown(error);
    });
    channel.on("close", () => this.#end(closedError(queue, cause)));
  }

  /** Begins to take. Rejects if the broker refuses. */
  async start(): Promise<void> {
    if (this.#prefetch > 0) await this.#addSlot(this.#firstPrefetch());
  }

  prefetch(count: number): void {
    this.#prefetch = Math.min(count, WIDEST);
    this.#passOn();
    if (this.#nextChange() !== undefined) void this.#adjust();
  }

  settle(batch: readonly ChannelSettlement[]): readonly SettleResult[] {
    const results: SettleResult[] = [];
    const tags: Record<ChannelSettlement["action"], number[]> = { ack: [], requeue: [], reject: [] };
    let settled = 0;
    let away = 0;
    for (const { token, action } of batch) {
      const own = (token as Token).channel === this && !this.#over ? (token as Token) : undefined;
      // One that is on its way back is acknowledged when it comes; requeued it is already, and comes as another.
      if (own !== undefined && this.#returning.settle(own, action === "ack" ? "ack" : "requeue")) {
        away++;
        results.push(action === "reject" ? "fenced" : "settled");
        continue;
      }
      const delivery = own?.tag === undefined ? undefined : this.#take(own.tag);
      if (delivery === undefined) {
        results.push("fenced");
        continue;
      }
      tags[action].push(delivery.token.tag as number);
      delivery.token.tag = undefined;
      settled++;
      results.push("settled");
    }
    if (settled + away === 0) return results;
    try {
      this.#unsettled.write(tags.ack, tags.requeue, tags.reject);
    } catch {
      // The channel is closing: the broker takes all of them back.
      return results.map(() => "fenced");
    }
    this.#events.progressed(settled + away);
    this.#passOn();
    if (this.#nextChange() !== undefined) void this.#adjust();
    return results;
  }

  #take(tag: number): Delivery | undefined {
    const delivery = this.#unsettled.take(tag);
    if (delivery === undefined) return undefined;
    delivery.slot.unsettled--;
    if (!delivery.slot.active) this.#orphans--;
    return delivery;
  }

  /** Resolves when everything has come that RabbitMQ had put on this channel before: it answers behind that. */
  async caughtUp(): Promise<void> {
    // The prefetch of consumers to come, each of which sets its own.
    await this.#channel.prefetch(1, false);
    // What came in the same turn is handed on at its end.
    this.#flush();
  }

  /** Gives everything unsettled back to the broker. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#review.stop();
    this.#gathered = [];
    this.#heldBack = [];
    await this.#channel.close();
  }

  #end(cause: MessagingError): void {
    if (this.#over) return;
    this.close().catch(() => {});
    this.#events.ended(cause);
  }

  /** Brings the consumers in line with the prefetch, one change at a time. */
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
    const free = this.#prefetch - granted - this.#orphans;
    if (granted > 0 && free < 0) return () => this.#cancelAll();
    if (free <= 0) return undefined;
    // What cancelled consumers held comes free one by one; a quarter of the prefetch is worth a new consumer.
    if (granted > 0 && this.#orphans > 0 && free < this.#prefetch >> 2) return undefined;
    return this.#slots.length < MOST_SLOTS ? () => this.#addSlot(free) : () => this.#cancelAll();
  }

  #nextOrderedChange(): (() => Promise<void>) | undefined {
    const [slot] = this.#slots;
    if (slot === undefined) return this.#prefetch > 0 ? () => this.#addSlot(this.#firstPrefetch()) : undefined;
    return slot.prefetch < this.#prefetch && this.#outstanding === 0 ? () => this.#begin() : undefined;
  }

  /** What RabbitMQ delivered and was not told the end of, what is on its way back to us included. */
  get #outstanding(): number {
    return this.#unsettled.size + this.#returning.size;
  }

  /** Ends for a channel with a wider prefetch. */
  async #begin(): Promise<void> {
    await this.close();
    this.#events.renew();
  }

  #firstPrefetch(): number {
    return this.#ordered ? Math.max(this.#prefetch, this.#orderedPrefetch) : this.#prefetch;
  }

  async #addSlot(prefetch: number): Promise<void> {
    const slot: Slot = { prefetch, consumerTag: "", active: true, unsettled: 0 };
    this.#slots.push(slot);
    const prefetched = this.#channel.prefetch(prefetch, false);
    const hold = this.#from.hold();
    const options = hold?.isAsked ? { arguments: { "x-consumer-timeout": hold.limitMs } } : {};
    const consuming = this.#channel.consume(this.#queue, (message) => this.#onMessage(slot, message), options);
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
    if (isOverPrefetch(slot.unsettled + 1, slot.prefetch)) {
      this.#end(overPrefetchError(this.#queue, slot.prefetch));
      return;
    }
    const { deliveryTag: tag, redelivered } = message.fields;
    const renewed = redelivered ? this.#returning.take(message) : undefined;
    if (renewed?.action === "ack") {
      this.#channel.ack(message);
      this.#passOn();
      return;
    }
    const isDoubtful =
      renewed === undefined && this.#from.handlerTimeoutMs !== undefined && this.#count.isDoubtful(message);
    if (isDoubtful && !this.#ordered) {
      this.#channel.nack(message, false, true);
      return;
    }
    const token: Token = renewed?.token ?? { channel: this, message, isDoubtful, tag };
    token.tag = tag;
    slot.unsettled++;
    const delivery: Delivery = { slot, token, at: performance.now(), told: "nothing" };
    this.#unsettled.add(tag, delivery);
    this.#review.later();
    if (renewed !== undefined) {
      if (token.isDoubtful) this.#learned(token, message);
      return;
    }
    // Over the prefetch, or behind one that is.
    const tooMany = this.#heldBack.length > 0 || this.#outstanding > this.#prefetch;
    if (this.#ordered && (tooMany || isDoubtful)) this.#holdBack(token);
    else this.#gather(token);
    if (!isDoubtful) return;
    this.#renewAll([delivery]);
    this.#review.expectBack();
  }

  #learned(token: Token, message: ConsumeMessage): void {
    token.isDoubtful = false;
    token.message = message;
    this.#passOn();
  }

  #holdBack(token: Token): void {
    this.#heldBack.push(token);
    this.#heldBackBytes += token.message.content.length;
    if (this.#heldBackBytes <= MOST_HELD_BACK_BYTES) return;
    // A cancel would let another process go on while this one holds messages; the end of the channel gives back all.
    this.#events.heldBackTooMuch(this.#heldBack.length >> 1);
    this.#end(tooMuchError(this.#queue));
  }

  #passOn(): void {
    while (this.#outstanding - this.#heldBack.length < this.#prefetch) {
      const [token] = this.#heldBack;
      if (token === undefined || token.isDoubtful) return;
      this.#heldBack.shift();
      this.#heldBackBytes -= token.message.content.length;
      this.#gather(token);
    }
  }

  #renewAll(due: readonly Delivery[]): void {
    const tags: number[] = [];
    for (const { token } of due) {
      const tag = token.tag as number;
      this.#take(tag);
      tags.push(tag);
      token.tag = undefined;
      this.#returning.add(token);
    }
    try {
      this.#unsettled.write([], tags);
    } catch {
      // The channel is closing, which gives back everything.
    }
  }

  /** They expired meanwhile, or reached the delivery limit, and were dead-lettered; or another consumer has them. */
  #loseAll(late: readonly Token[]): void {
    const gone = new Set(late);
    const isHeldBack = (token: Token): boolean => gone.has(token);
    const heldBack = this.#heldBack.filter(isHeldBack);
    this.#heldBack = this.#heldBack.filter((token) => !gone.has(token));
    for (const token of heldBack) {
      this.#heldBackBytes -= token.message.content.length;
      gone.delete(token);
    }
    if (gone.size > 0) this.#events.lost([...gone], notBackError(this.#queue));
    this.#passOn();
  }

  /** amqplib gives every message of one read from the socket in one turn; they go on together. */
  #gather(token: Token): void {
    if (this.#gathered.length === 0) afterCurrentTurn(() => this.#flush());
    this.#gathered.push(this.#read(token.message, token, this.#count.of(token.message)));
  }

  #flush(): void {
    const batch = this.#gathered;
    if (batch.length === 0) return;
    this.#gathered = [];
    this.#events.deliver(batch);
  }
}

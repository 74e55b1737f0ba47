import type { Channel, ConsumeMessage, Message } from "amqplib";
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

interface Entry<Token> {
  readonly token: Token;
  readonly id: string;
  readonly since: number;
  /** What the engine decided while it was away. */
  action: "ack" | undefined;
}

/**
 * Deliveries that were requeued in order to come back to the same consumer. They are found by message id, because
 * nothing else of a delivery stays the same.
 */
class Renewals<Token extends { readonly message: ConsumeMessage }> {
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

  /** The delivery that comes back with this message, and what to do with it; undefined for any other message. */
  take(message: ConsumeMessage): { readonly token: Token; readonly action: "ack" | undefined } | undefined {
    if (this.#entries.size === 0) return undefined;
    const entry = this.#byId.get(messageId(message))?.[0];
    if (entry === undefined) return undefined;
    this.#remove(entry);
    return entry;
  }

  /** Settles a delivery that is away; false if it is not, or was settled. If requeued, it comes back as a new one. */
  settle(token: Token, action: Settlement["action"]): boolean {
    const entry = this.#entries.get(token);
    if (entry === undefined || entry.action !== undefined) return false;
    if (action === "ack") entry.action = "ack";
    else this.#remove(entry);
    return true;
  }

  /** Removes the entries up to a time, and returns the unsettled ones. */
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

/** One consumer on the channel. RabbitMQ fixes its prefetch when it starts. */
interface ChannelConsumer {
  readonly prefetch: number;
  consumerTag: string;
  /** A cancelled consumer gets no more messages; its deliveries stay ours until they are settled. */
  active: boolean;
  unsettled: number;
}

/** The engine's token of a delivery. It is void on any other channel. */
interface Token {
  readonly channel: ReceivingChannel;
  message: ConsumeMessage;
  /** It was requeued to find out its count on this queue, and waits until it is back. */
  isDoubtful: boolean;
  /** Changes with each renewal. Undefined while the delivery is being renewed, and after it is settled. */
  tag: number | undefined;
}

/** An unsettled delivery. */
interface Delivery extends Reviewed<Token> {
  readonly consumer: ChannelConsumer;
}

/** The queue dead-letters a rejected message; without dead letters it drops the message. */
interface ChannelSettlement {
  readonly token: DeliveryToken;
  readonly action: "ack" | "requeue" | "reject";
}

/** Converts a delivery to the adapter contract. */
export type MessageReader = (
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
) => IncomingMessage<ConsumeMessage>;

/** The queue to receive from. */
export interface ReceivingSource extends ReviewedSource {
  /** The least prefetch of an ordered queue. */
  readonly orderedPrefetch: number;
  readonly read: MessageReader;
  readonly count: DeliveryCount;
  /** An error of the client library, redacted. */
  readonly shown: (error: unknown) => unknown;
}

interface ReceivingEvents {
  deliver(batch: readonly IncomingMessage<ConsumeMessage>[]): void;
  /** The channel and all unsettled deliveries are lost. Called once. */
  ended(cause: MessagingError): void;
  /** Nothing is unsettled, and a larger prefetch needs a new channel. Called once, instead of `ended`. */
  renew(): void;
  /**
   * The messages of an ordered queue are so large that fewer may be held back. Called once, before `ended`. The next
   * channel must use this least prefetch.
   */
  heldBackTooMuch(orderedPrefetch: number): void;
  /** Deliveries were settled: the channel works. */
  progressed(count: number): void;
  /** Requeue these deliveries if their handlers have not started: too little time would be left. */
  revoke(tokens: readonly DeliveryToken[]): void;
  /** Deliveries are held too long and cannot be renewed: RabbitMQ takes them back in a moment. */
  overdue(tokens: readonly DeliveryToken[], cause: MessagingError): void;
  /** Renewed deliveries did not come back. */
  lost(tokens: readonly DeliveryToken[], cause: MessagingError): void;
}

/** AMQP has 16 bits for a prefetch. */
const MAX_PREFETCH = 65_535;
/** With this many consumers on a channel, one new consumer replaces them all. */
const MAX_CONSUMERS = 8;
/** The least prefetch of an ordered queue's consumer: the engine's prefetch may grow up to it without a new channel. */
export const ORDERED_PREFETCH = 256;
/** The most bytes that an ordered queue's channel holds back beyond the prefetch. */
const MAX_HELD_BACK_BYTES = 32 * 1024 * 1024;

/**
 * Receives the messages of one queue on one channel, within the prefetch, until the channel ends.
 *
 * Unordered queue: to raise the prefetch, it adds a consumer with the difference; to lower it, it cancels all consumers
 * and adds one with what is free.
 *
 * Ordered queue: a cancel would let another process continue while this one still holds messages. So it keeps its one
 * consumer and holds back deliveries beyond the prefetch. For a prefetch above the consumer's, it opens a new channel
 * once nothing is unsettled.
 *
 * RabbitMQ takes back deliveries that are held too long. On an ordered queue, this class requeues them earlier: they
 * come back to the same consumer at once and keep their place and their running handler. On an unordered queue another
 * consumer might get them, so the engine has to end the handler.
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
  /** Deliveries that were requeued for renewal. */
  readonly #renewals = new Renewals<Token>();
  readonly #review: HoldReview<Delivery, Token>;
  #consumers: ChannelConsumer[] = [];
  #prefetch: number;
  #unsettledOfCancelled = 0;
  #adjusting = false;
  #over = false;
  #batch: IncomingMessage<ConsumeMessage>[] = [];
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
    this.#review = new HoldReview(from, this.#unsettled, this.#renewals, {
      revoke: (tokens) => events.revoke(tokens),
      overdue: (tokens, cause) => events.overdue(tokens, cause),
      renew: (due) => this.#renewAll(due),
      lost: (late) => this.#loseAll(late),
    });
    this.#prefetch = Math.min(prefetch, MAX_PREFETCH);
    this.#events = events;
    let cause: unknown;
    channel.on("error", (error) => {
      cause = from.shown(error);
    });
    channel.on("close", () => this.#end(closedError(queue, cause)));
  }

  /** Starts to consume. Rejects if the broker refuses. */
  async start(): Promise<void> {
    if (this.#prefetch > 0) await this.#addConsumer(this.#firstPrefetch());
  }

  prefetch(count: number): void {
    this.#prefetch = Math.min(count, MAX_PREFETCH);
    this.#releaseHeldBack();
    if (this.#nextChange() !== undefined) void this.#adjust();
  }

  settle(batch: readonly ChannelSettlement[]): readonly SettleResult[] {
    const results: SettleResult[] = [];
    const tags: Record<ChannelSettlement["action"], number[]> = { ack: [], requeue: [], reject: [] };
    let settled = 0;
    let renewing = 0;
    for (const { token, action } of batch) {
      const own = (token as Token).channel === this && !this.#over ? (token as Token) : undefined;
      // If it is being renewed, an ack waits until it is back; a requeue is done already, and it comes back as new.
      if (own !== undefined && this.#renewals.settle(own, action === "ack" ? "ack" : "requeue")) {
        renewing++;
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
    if (settled + renewing === 0) return results;
    try {
      this.#unsettled.write(tags.ack, tags.requeue, tags.reject);
    } catch {
      // The channel is closing: the broker requeues everything.
      return results.map(() => "fenced");
    }
    this.#events.progressed(settled + renewing);
    this.#releaseHeldBack();
    if (this.#nextChange() !== undefined) void this.#adjust();
    return results;
  }

  #take(tag: number): Delivery | undefined {
    const delivery = this.#unsettled.take(tag);
    if (delivery === undefined) return undefined;
    delivery.consumer.unsettled--;
    if (!delivery.consumer.active) this.#unsettledOfCancelled--;
    return delivery;
  }

  /** Resolves after all deliveries that RabbitMQ sent before: the answer comes behind them. */
  async caughtUp(): Promise<void> {
    // This sets the prefetch of future consumers only, and each of them sets its own.
    await this.#channel.prefetch(1, false);
    // Deliveries of the same turn are passed on at its end.
    this.#flush();
  }

  /** Requeues everything unsettled. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#review.stop();
    this.#batch = [];
    this.#heldBack = [];
    await this.#channel.close();
  }

  #end(cause: MessagingError): void {
    if (this.#over) return;
    this.close().catch(() => {});
    this.#events.ended(cause);
  }

  /** Adjusts the consumers to the prefetch, one change at a time. */
  async #adjust(): Promise<void> {
    if (this.#adjusting) return;
    this.#adjusting = true;
    try {
      for (let change = this.#nextChange(); change !== undefined; change = this.#nextChange()) await change();
    } catch {
      // The broker refused, or the connection broke: the channel's end reports it.
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
    for (const consumer of this.#consumers) granted += consumer.prefetch;
    const free = this.#prefetch - granted - this.#unsettledOfCancelled;
    if (granted > 0 && free < 0) return () => this.#cancelAll();
    if (free <= 0) return undefined;
    // Deliveries of cancelled consumers are settled one by one. A new consumer pays off from a quarter of the prefetch.
    if (granted > 0 && this.#unsettledOfCancelled > 0 && free < this.#prefetch >> 2) return undefined;
    return this.#consumers.length < MAX_CONSUMERS ? () => this.#addConsumer(free) : () => this.#cancelAll();
  }

  #nextOrderedChange(): (() => Promise<void>) | undefined {
    const [consumer] = this.#consumers;
    if (consumer === undefined) return this.#prefetch > 0 ? () => this.#addConsumer(this.#firstPrefetch()) : undefined;
    return consumer.prefetch < this.#prefetch && this.#outstanding === 0 ? () => this.#replaceChannel() : undefined;
  }

  /** Deliveries that RabbitMQ counts as unacknowledged, including those being renewed. */
  get #outstanding(): number {
    return this.#unsettled.size + this.#renewals.size;
  }

  /** Closes, so that a channel with a larger prefetch can replace it. */
  async #replaceChannel(): Promise<void> {
    await this.close();
    this.#events.renew();
  }

  #firstPrefetch(): number {
    return this.#ordered ? Math.max(this.#prefetch, this.#orderedPrefetch) : this.#prefetch;
  }

  async #addConsumer(prefetch: number): Promise<void> {
    const consumer: ChannelConsumer = { prefetch, consumerTag: "", active: true, unsettled: 0 };
    this.#consumers.push(consumer);
    const prefetched = this.#channel.prefetch(prefetch, false);
    const hold = this.#from.hold();
    const options = hold?.isRequested ? { arguments: { "x-consumer-timeout": hold.limitMs } } : {};
    const consuming = this.#channel.consume(this.#queue, (message) => this.#onMessage(consumer, message), options);
    // Awaited together: if the connection breaks, both reject, and one alone would be an unhandled rejection.
    const [, { consumerTag }] = await Promise.all([prefetched, consuming]);
    consumer.consumerTag = consumerTag;
  }

  async #cancelAll(): Promise<void> {
    const consumers = this.#consumers;
    this.#consumers = [];
    await Promise.all(consumers.map((consumer) => this.#channel.cancel(consumer.consumerTag)));
    for (const consumer of consumers) {
      consumer.active = false;
      this.#unsettledOfCancelled += consumer.unsettled;
    }
  }

  #onMessage(consumer: ChannelConsumer, message: ConsumeMessage | null): void {
    if (this.#over) return;
    if (message === null) {
      this.#end(cancelledError(this.#queue));
      return;
    }
    if (isOverPrefetch(consumer.unsettled + 1, consumer.prefetch)) {
      this.#end(overPrefetchError(this.#queue, consumer.prefetch));
      return;
    }
    const { deliveryTag: tag, redelivered } = message.fields;
    const renewed = redelivered ? this.#renewals.take(message) : undefined;
    if (renewed?.action === "ack") {
      this.#channel.ack(message);
      this.#releaseHeldBack();
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
    consumer.unsettled++;
    const delivery: Delivery = { consumer, token, at: performance.now(), reported: "nothing" };
    this.#unsettled.add(tag, delivery);
    this.#review.schedule();
    if (renewed !== undefined) {
      if (token.isDoubtful) this.#onCountKnown(token, message);
      return;
    }
    // Beyond the prefetch, or behind a delivery that is.
    const tooMany = this.#heldBack.length > 0 || this.#outstanding > this.#prefetch;
    if (this.#ordered && (tooMany || isDoubtful)) this.#holdBack(token);
    else this.#addToBatch(token);
    if (!isDoubtful) return;
    this.#renewAll([delivery]);
    this.#review.expectBack();
  }

  #onCountKnown(token: Token, message: ConsumeMessage): void {
    token.isDoubtful = false;
    token.message = message;
    this.#releaseHeldBack();
  }

  #holdBack(token: Token): void {
    this.#heldBack.push(token);
    this.#heldBackBytes += token.message.content.length;
    if (this.#heldBackBytes <= MAX_HELD_BACK_BYTES) return;
    // A cancel would let another process continue while this one holds messages. A closed channel requeues them all.
    this.#events.heldBackTooMuch(this.#heldBack.length >> 1);
    this.#end(tooMuchError(this.#queue));
  }

  #releaseHeldBack(): void {
    while (this.#outstanding - this.#heldBack.length < this.#prefetch) {
      const [token] = this.#heldBack;
      if (token === undefined || token.isDoubtful) return;
      this.#heldBack.shift();
      this.#heldBackBytes -= token.message.content.length;
      this.#addToBatch(token);
    }
  }

  #renewAll(due: readonly Delivery[]): void {
    const tags: number[] = [];
    for (const { token } of due) {
      const tag = token.tag as number;
      this.#take(tag);
      tags.push(tag);
      token.tag = undefined;
      this.#renewals.add(token);
    }
    try {
      this.#unsettled.write([], tags);
    } catch {
      // The channel is closing, which requeues everything.
    }
  }

  /** They expired, reached the delivery limit, or went to another consumer. */
  #loseAll(late: readonly Token[]): void {
    const lost = new Set(late);
    const isHeldBack = (token: Token): boolean => lost.has(token);
    const heldBack = this.#heldBack.filter(isHeldBack);
    this.#heldBack = this.#heldBack.filter((token) => !lost.has(token));
    for (const token of heldBack) {
      this.#heldBackBytes -= token.message.content.length;
      lost.delete(token);
    }
    if (lost.size > 0) this.#events.lost([...lost], notBackError(this.#queue));
    this.#releaseHeldBack();
  }

  /** amqplib emits all messages of one socket read in one turn; they are passed on as one batch. */
  #addToBatch(token: Token): void {
    if (this.#batch.length === 0) afterCurrentTurn(() => this.#flush());
    this.#batch.push(this.#read(token.message, token, this.#count.of(token.message)));
  }

  #flush(): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#events.deliver(batch);
  }
}

/** The unsettled deliveries of one channel, by delivery tag. Acks of adjacent tags are written as one frame. */
export class Unsettled<Owner> {
  readonly #channel: Pick<Channel, "ack" | "nack">;
  /** By ascending delivery tag. */
  readonly #owners = new Map<number, Owner>();

  constructor(channel: Pick<Channel, "ack" | "nack">) {
    this.#channel = channel;
  }

  get size(): number {
    return this.#owners.size;
  }

  /** The unsettled deliveries, in the order of delivery. */
  [Symbol.iterator](): IterableIterator<[number, Owner]> {
    return this.#owners[Symbol.iterator]();
  }

  add(tag: number, owner: Owner): void {
    this.#owners.set(tag, owner);
  }

  /** Removes a delivery, so that {@link write} can settle it; undefined if it is settled already. */
  take(tag: number): Owner | undefined {
    const owner = this.#owners.get(tag);
    if (owner !== undefined) this.#owners.delete(tag);
    return owner;
  }

  /** Writes settlements of deliveries that {@link take} removed. The queue dead-letters or drops rejected messages. */
  write(acks: number[], requeues: readonly number[], rejects: readonly number[] = []): void {
    // Requeues go first: an ack of all tags up to one must not cover a requeued delivery.
    for (const tag of requeues) this.#channel.nack(handle(tag), false, true);
    for (const tag of rejects) this.#channel.nack(handle(tag), false, false);
    acks.sort((a, b) => a - b);
    const { value: lowest = Number.POSITIVE_INFINITY } = this.#owners.keys().next();
    // One frame acks all tags below the lowest unsettled one.
    let below = 0;
    while (below < acks.length && (acks[below] as number) < lowest) below++;
    if (below > 0) this.#channel.ack(handle(acks[below - 1] as number), below > 1);
    for (let index = below; index < acks.length; index++) this.#channel.ack(handle(acks[index] as number), false);
  }
}

/** amqplib reads only the tag. */
function handle(deliveryTag: number): Message {
  return { fields: { deliveryTag } } as Message;
}

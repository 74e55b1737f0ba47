import type { Channel, ConsumeMessage, Message } from "amqplib";
import type { DeliveryToken, IncomingMessage, SettleResult } from "../../core/adapter.ts";
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
import { Renewals, type Renewed } from "./renewals.ts";

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
  readonly message: ConsumeMessage;
  /** Its place in the queue's order, among all deliveries of the channel. */
  readonly place: number;
  /** Changes with each renewal. Undefined while the delivery is being renewed, and after it is settled. */
  tag: number | undefined;
}

/** An unsettled delivery. */
interface Delivery extends Reviewed<Token> {
  readonly consumer: ChannelConsumer;
  token: Token;
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
export const MAX_PREFETCH = 65_535;
/** With this many consumers on a channel, one new consumer replaces them all. */
const MAX_CONSUMERS = 8;
/**
 * The least prefetch of an ordered queue's consumer: the most that an engine with default options wants. A consumer whose
 * prefetch is smaller than its predecessor's gets only a part of what that one returned. If it returns this part, RabbitMQ
 * puts it behind the rest.
 */
export const ORDERED_PREFETCH = 600;
/** The most bytes of deliveries beyond the prefetch. */
const MAX_SURPLUS_BYTES = 32 * 1024 * 1024;
const NO_CONTENT = Buffer.alloc(0);

/**
 * Receives the messages of one queue on one channel, within the prefetch, until the channel ends.
 *
 * Unordered queue: to raise the prefetch, it adds a consumer with the difference; to lower it, it cancels all consumers
 * and adds one with what is free. Until the server has answered the cancel, deliveries beyond the new prefetch arrive.
 * If these are too large together, it keeps no more of their bodies, and requeues them once it is cancelled: earlier they
 * would come straight back.
 *
 * Ordered queue: a cancel would let another process continue while this one still holds messages. So it keeps its one
 * consumer and holds back deliveries beyond the prefetch. For a prefetch above the consumer's, it opens a new channel
 * once nothing is unsettled.
 *
 * RabbitMQ delivers returned messages in the order of their return, and a closed channel returns its messages in the order
 * of their deliveries. A message that is requeued alone comes behind later messages of its key. So on an ordered queue this
 * class keeps a requeued delivery in its place and delivers it again itself. Only the end of the channel returns it.
 *
 * RabbitMQ takes back deliveries that are held too long. On an ordered queue, this class requeues them earlier, together
 * with all others: they come back to the same consumer at once and keep their place and their running handler. On an
 * unordered queue another consumer might get them, so the engine has to end the handler.
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
  /** By their place. */
  #heldBack: Token[] = [];
  #heldBackBytes = 0;
  /** The bytes of an unordered queue's latest deliveries, all beyond the prefetch. */
  #surplusBytes = 0;
  /** The tags of deliveries to requeue after the cancel. */
  #refused: number[] = [];
  #places = 0;

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
      renew: () => this.#renewAll(),
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
    if (this.#prefetch === 0) return;
    // The first deliveries may change the prefetch, and the consumer cannot be cancelled before its tag is known.
    this.#adjusting = true;
    try {
      await this.#addConsumer(this.#firstPrefetch());
    } finally {
      this.#adjusting = false;
    }
    void this.#adjust();
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
    let later = 0;
    for (const { token, action } of batch) {
      const own = (token as Token).channel === this && !this.#over ? (token as Token) : undefined;
      if (own !== undefined && this.#settleLater(own, action)) {
        later++;
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
    if (settled + later === 0) return results;
    try {
      this.#unsettled.write(tags.ack, tags.requeue, tags.reject);
    } catch {
      // The channel is closing: the broker requeues everything.
      return results.map(() => "fenced");
    }
    this.#events.progressed(settled + later);
    this.#releaseHeldBack();
    if (this.#nextChange() !== undefined) void this.#adjust();
    return results;
  }

  /** False for a settlement that RabbitMQ gets at once. While a delivery is away, an ack waits, and a reject fails. */
  #settleLater(token: Token, action: ChannelSettlement["action"]): boolean {
    if (action === "ack") return this.#renewals.ack(token);
    return (action === "requeue" ? this.#ordered : token.tag === undefined) && this.#putBack(token);
  }

  /** Keeps a delivery in its place, to be delivered again from here. False if it is not unsettled. */
  #putBack(token: Token): boolean {
    const again: Token = { ...token };
    if (!this.#renewals.replace(token, again)) {
      const delivery = token.tag === undefined ? undefined : this.#unsettled.get(token.tag);
      if (delivery === undefined) return false;
      delivery.token = again;
    }
    token.tag = undefined;
    this.#holdBack(again);
    return true;
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
    if (granted > 0 && (free < 0 || this.#refused.length > 0)) return () => this.#cancelAll();
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
    const refused = this.#refused;
    this.#refused = [];
    for (const tag of refused) this.#take(tag);
    this.#requeue(() => this.#unsettled.write([], refused));
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
    if (renewed !== undefined) {
      this.#onRenewed(consumer, renewed, tag);
      return;
    }
    // On an ordered queue the requeue would break the order.
    const mayRequeue = !this.#ordered && this.#from.handlerTimeoutMs !== undefined;
    if (mayRequeue && this.#count.isDoubtful(message)) {
      this.#channel.nack(message, false, true);
      return;
    }
    if (!this.#ordered && this.#isTooMuch(message)) {
      this.#add(
        consumer,
        { channel: this, message: { ...message, content: NO_CONTENT }, place: this.#places++, tag },
        tag,
      );
      this.#refused.push(tag);
      void this.#adjust();
      return;
    }
    const token: Token = { channel: this, message, place: this.#places++, tag };
    this.#add(consumer, token, tag);
    // Beyond the prefetch, or behind a delivery that is.
    const tooMany = this.#heldBack.length > 0 || this.#outstanding > this.#prefetch;
    if (!this.#ordered || !tooMany) this.#addToBatch(token);
    else {
      this.#holdBack(token);
      if (this.#heldBackBytes > MAX_SURPLUS_BYTES) this.#endForBytes();
    }
  }

  /** Whether this delivery and those before it are too large for deliveries beyond the prefetch. */
  #isTooMuch({ content }: ConsumeMessage): boolean {
    const isSurplus = this.#outstanding >= this.#prefetch;
    this.#surplusBytes = isSurplus ? this.#surplusBytes + content.length : 0;
    return this.#surplusBytes > MAX_SURPLUS_BYTES;
  }

  #add(consumer: ChannelConsumer, token: Token, tag: number): void {
    token.tag = tag;
    consumer.unsettled++;
    this.#unsettled.add(tag, { consumer, token, at: performance.now(), reported: "nothing" });
    this.#review.schedule();
  }

  #onRenewed(consumer: ChannelConsumer, { token, action }: Renewed<Token>, tag: number): void {
    if (action === "ack") this.#channel.ack(handle(tag));
    else this.#add(consumer, token, tag);
    if (this.#renewals.size === 0) this.#renewPassed();
    this.#releaseHeldBack();
  }

  /** A cancel would let another process continue while this one holds messages. A closed channel requeues them all. */
  #endForBytes(): void {
    this.#events.heldBackTooMuch(this.#heldBack.length >> 1);
    this.#end(tooMuchError(this.#queue));
  }

  #holdBack(token: Token): void {
    let at = this.#heldBack.length;
    while (at > 0 && (this.#heldBack[at - 1] as Token).place > token.place) at--;
    this.#heldBack.splice(at, 0, token);
    this.#heldBackBytes += token.message.content.length;
  }

  #releaseHeldBack(): void {
    while (this.#outstanding - this.#heldBack.length < this.#prefetch) {
      const [token] = this.#heldBack;
      if (token === undefined) return;
      this.#heldBack.shift();
      this.#heldBackBytes -= token.message.content.length;
      this.#addToBatch(token);
    }
  }

  /** One frame for everything unsettled, because RabbitMQ keeps the order of messages that it takes back together. */
  #renewAll(): void {
    const last = this.#sendAway([...this.#unsettled].map(([, delivery]) => delivery)).at(-1);
    if (last !== undefined) this.#requeue(() => this.#channel.nack(handle(last), true, true));
  }

  /**
   * Deliveries that arrived while others were away have earlier tags than these, and would come before them after a lost
   * connection. They are renewed too.
   */
  #renewPassed(): void {
    const passed: Delivery[] = [];
    let least = Number.POSITIVE_INFINITY;
    for (const [, delivery] of [...this.#unsettled].reverse()) {
      if (delivery.token.place > least) passed.unshift(delivery);
      else least = delivery.token.place;
    }
    if (passed.length === 0) return;
    const tags = this.#sendAway(passed);
    this.#requeue(() => this.#unsettled.write([], tags));
  }

  #sendAway(deliveries: readonly Delivery[]): readonly number[] {
    return deliveries.map(({ token }) => {
      const tag = token.tag as number;
      this.#take(tag);
      token.tag = undefined;
      this.#renewals.add(token);
      return tag;
    });
  }

  #requeue(write: () => void): void {
    try {
      write();
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
    if (this.#renewals.size === 0) this.#renewPassed();
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

  get(tag: number): Owner | undefined {
    return this.#owners.get(tag);
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

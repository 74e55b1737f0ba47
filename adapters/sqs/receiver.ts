import { type Message, ReceiveMessageCommand, type SQSClient } from "@aws-sdk/client-sqs";
import type {
  DeadLetterResult,
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  Receiver,
  Settlement,
  SettleResult,
} from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";
import { asMessagingError, isMissing, isUnanswered } from "./errors.ts";
import { decodeMessage, receivesOf } from "./message-codec.ts";
import { MOST_ENTRIES } from "./publisher.ts";
import type { Redriving } from "./redriving.ts";
import { type Change, type Changed, type ChangeTarget, Settling } from "./settling.ts";

/** Short beside what a network takes now and then: where polls do not wait, messages are to come soon all the same. */
const PAUSE: BackoffTimes = Object.freeze({ firstMs: 10, maxMs: 250 });

/**
 * Polls of one queue that come back empty long before their time, as from a server that knows no long polls, or will have
 * none for the moment. One now and then is nothing; many in a row would be made as fast as the network lets them.
 */
export class EarlyPolls {
  readonly #waitMs: number;
  #inARow = 0;

  constructor(waitSeconds: number) {
    this.#waitMs = waitSeconds * 1_000;
  }

  /** Milliseconds to wait before the next poll, after one that took so long and brought so many messages. */
  pauseMs(tookMs: number, count: number): number {
    this.#inARow = count > 0 || tookMs >= this.#waitMs / 2 ? 0 : this.#inARow + 1;
    return this.#inARow < 2 ? 0 : backoffMs(this.#inARow - 1, PAUSE);
  }
}

const MOST_REMEMBERED = 10_000;

/**
 * How often messages were given back on purpose. SQS counts that like the death of a consumer; what this process gave
 * back it can tell apart, what another did it cannot.
 */
export class Requeues {
  readonly #counts = new Map<string, number>();

  requeued(messageId: string): void {
    const count = this.count(messageId) + 1;
    // The oldest makes room: it is the least likely to be asked for.
    this.#counts.delete(messageId);
    this.#counts.set(messageId, count);
    if (this.#counts.size <= MOST_REMEMBERED) return;
    const [oldest = ""] = this.#counts.keys();
    this.#counts.delete(oldest);
  }

  count(messageId: string): number {
    return this.#counts.get(messageId) ?? 0;
  }

  forget(messageId: string): void {
    this.#counts.delete(messageId);
  }
}

/** What can keep a receiver from taking messages: polls, deletes, requeues, renewals of leases, a subscription that is gone. */
type StallReason = "poll" | "delete" | "hide" | "renew" | "subscription";
/** While these last, the receiver asks for messages nevertheless. */
const POLLED_ON: readonly StallReason[] = ["poll", "subscription"];

/** Why a receiver takes no messages, each reason told once. */
class Stalls {
  readonly #sink: Pick<DeliverySink, "stalled" | "flowing">;
  readonly #causes = new Map<StallReason, MessagingError>();
  #told: StallReason | undefined;

  constructor(sink: Pick<DeliverySink, "stalled" | "flowing">) {
    this.#sink = sink;
  }

  /** Whether nothing should be taken, because what is held cannot be settled or kept. */
  get isHeldBack(): boolean {
    return [...this.#causes.keys()].some((reason) => !POLLED_ON.includes(reason));
  }

  stalled(reason: StallReason, cause: MessagingError): void {
    const before = this.#causes.get(reason);
    this.#causes.set(reason, cause);
    if (before?.code === cause.code && before.message === cause.message) return;
    this.#told = reason;
    this.#sink.stalled(cause);
  }

  /** A reason is over, if it was one. */
  over(reason: StallReason): void {
    if (!this.#causes.delete(reason)) return;
    const [next] = this.#causes;
    if (next === undefined) this.#sink.flowing();
    else if (this.#told === reason) {
      this.#told = next[0];
      this.#sink.stalled(next[1]);
    }
  }

  /** A poll brought something, which a delivery says by itself. What lasts nevertheless is said again. */
  delivers(): void {
    for (const reason of POLLED_ON) this.#causes.delete(reason);
  }
}

/** SQS takes a message back after so long, however often its visibility timeout was extended. */
const LONGEST_HOLD_MS = 12 * 60 * 60 * 1_000;
/** As the engine does it: so that one renewal that fails loses no lease. */
const RENEWALS_PER_LEASE = 3;
const RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 5_000 });

/** A delivery as the receiver knows it. */
interface Held {
  readonly receipt: string;
  readonly messageId: string;
  readonly receivedAt: number;
  /** When its lease ends, as far as SQS has told. */
  until: number;
  settled: boolean;
}

/** What a receiver needs of its queue. */
interface ReceiverParts {
  /** Names the source in messages to people. */
  readonly where: string;
  readonly url: string;
  readonly polling: SQSClient;
  /** For what is done to messages that were taken. */
  readonly client: SQSClient;
  readonly requeues: Requeues;
  /** Undefined for dead letters. */
  readonly redriving: Redriving | undefined;
  readonly leaseMs: number;
  readonly waitSeconds: number;
  readonly maxPolls: number;
  readonly prefetch: number;
  /** Reads a message; by default as {@link decodeMessage}. */
  readonly decode?: (message: Message) => Omit<IncomingMessage<Message>, "token">;
  /** Whether a message is one that the subscription asked for. */
  readonly wanted?: (message: IncomingMessage<Message>) => boolean;
  /** The queue is gone. Resolves when it stands again, or was looked for in vain. */
  missing(): Promise<unknown>;
  unanswered(cause: unknown): void;
  /** Why nothing may come although much stands there; undefined if nothing is known. */
  congested(): Promise<MessagingError | undefined>;
}

/** Takes messages from a queue by as many long polls as its prefetch has use for. */
export class SqsReceiver implements Receiver {
  readonly leaseMs: number;
  readonly #parts: ReceiverParts;
  readonly #sink: DeliverySink<Message>;
  readonly #unsettled = new Set<Held>();
  readonly #polls = new Set<Promise<void>>();
  readonly #settling: Settling;
  readonly #stalls: Stalls;
  readonly #early: EarlyPolls;
  /** Deletes that SQS refuses for now: their leases are kept until they go through. */
  readonly #deleting = new Set<Held>();
  #prefetch: number;
  /** Messages that polls under way may bring. */
  #awaited = 0;
  /** How many polls are worth having: as many as came back full. */
  #wanted = 1;
  #failures = 0;
  #extending: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: ReceiverParts, sink: DeliverySink<Message>) {
    this.#parts = parts;
    this.#sink = sink;
    this.#stalls = new Stalls(sink);
    this.#early = new EarlyPolls(parts.waitSeconds);
    this.#settling = new Settling(changeTarget(parts), (sort, cause) => this.#held(sort, cause));
    this.leaseMs = parts.leaseMs;
    this.#prefetch = parts.prefetch;
    this.#pump();
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#pump();
  }

  /** SNS brings nothing to this queue, and why; undefined when SNS does. */
  cutOff(cause: MessagingError | undefined): void {
    if (this.#closing !== undefined) return;
    if (cause === undefined) this.#stalls.over("subscription");
    else this.#stalls.stalled("subscription", cause);
  }

  /** Makes polls while the prefetch has room for what they bring. */
  #pump(): void {
    if (this.#closing !== undefined || this.#retry !== undefined || this.#stalls.isHeldBack) return;
    while (this.#polls.size < this.#wanted) {
      const room = Math.min(this.#prefetch - this.#unsettled.size - this.#awaited, MOST_ENTRIES);
      // A poll for one message costs as much as one for ten: beside another it is worth waiting for more room.
      const least = Math.min(MOST_ENTRIES, Math.ceil(this.#prefetch / 2));
      if (room < 1 || (room < least && this.#polls.size > 0)) return;
      const poll = this.#poll(room).finally(() => {
        this.#polls.delete(poll);
        this.#pump();
      });
      this.#polls.add(poll);
    }
  }

  async #poll(most: number): Promise<void> {
    const { url, polling, leaseMs, waitSeconds } = this.#parts;
    this.#awaited += most;
    const begun = performance.now();
    let messages: readonly Message[];
    try {
      const { Messages = [] } = await polling.send(
        new ReceiveMessageCommand({
          QueueUrl: url,
          MaxNumberOfMessages: most,
          WaitTimeSeconds: waitSeconds,
          VisibilityTimeout: leaseMs / 1_000,
          MessageAttributeNames: ["All"],
          MessageSystemAttributeNames: ["All"],
        }),
      );
      messages = Messages;
    } catch (error) {
      this.#awaited -= most;
      await this.#failed(error);
      return;
    }
    this.#awaited -= most;
    this.#failures = 0;
    const pauseMs = this.#early.pauseMs(performance.now() - begun, messages.length);
    if (messages.length === most) this.#wanted = Math.min(this.#wanted * 2, this.#parts.maxPolls);
    else if (messages.length === 0) this.#wanted = 1;
    if (messages.length > 0) await this.#arrived(messages);
    else await this.#nothingCame();
    if (pauseMs > 0) this.#pumpAfter(pauseMs);
  }

  async #arrived(messages: readonly Message[]): Promise<void> {
    const open = this.#closing === undefined && !this.#stalls.isHeldBack;
    const room = open ? Math.max(this.#prefetch - this.#unsettled.size, 0) : 0;
    const now = Date.now();
    const surplus: Held[] = [];
    const deliveries: IncomingMessage<Message>[] = [];
    const late: Held[] = [];
    const redriven: Change[] = [];
    for (const [index, message] of messages.entries()) {
      const held: Held = {
        receipt: message.ReceiptHandle ?? "",
        messageId: message.MessageId ?? "",
        receivedAt: now,
        until: now + this.leaseMs,
        settled: false,
      };
      if (this.#parts.redriving?.givesBack(held.messageId, receivesOf(message)))
        redriven.push({ receipt: held.receipt, visibilitySeconds: 0 });
      else if (index >= room) late.push(held);
      else {
        const incoming = this.#read(held, message);
        this.#unsettled.add(held);
        if (this.#parts.wanted?.(incoming) === false) surplus.push(held);
        else deliveries.push(incoming);
      }
    }
    if (deliveries.length > 0) {
      this.#stalls.delivers();
      this.#sink.deliver(deliveries);
    } else this.#stalls.over("poll");
    if (surplus.length > 0) void this.#remove(surplus);
    // What came after it was asked for goes back at once, and what is left to the redrive policy.
    const back = [...late.map(this.#givingBack), ...redriven];
    if (back.length > 0) await this.#settling.apply(back, false);
  }

  /** Deletes what is not for this subscription, and counts it. */
  async #remove(surplus: readonly Held[]): Promise<void> {
    for (const held of surplus) held.settled = true;
    const removed = await this.#deleteAll(surplus);
    const filtered = removed.filter((changed) => changed === "done").length;
    if (filtered > 0) this.#sink.filtered(filtered);
    this.#pump();
  }

  #read(token: Held, message: Message): IncomingMessage<Message> {
    const incoming = (this.#parts.decode ?? decodeMessage)(message);
    const redeliveries = Math.max(incoming.redeliveries - this.#parts.requeues.count(token.messageId), 0);
    return { token, ...incoming, redeliveries };
  }

  readonly #givingBack = ({ receipt, messageId }: Held): Change => {
    this.#parts.requeues.requeued(messageId);
    return { receipt, visibilitySeconds: 0 };
  };

  async #failed(error: unknown): Promise<void> {
    if (this.#closing !== undefined) return;
    this.#stalls.stalled("poll", asMessagingError(`taking messages from ${this.#parts.where}`, error));
    if (isUnanswered(error)) this.#parts.unanswered(error);
    const wait = backoffMs(++this.#failures, RETRY);
    this.#wanted = 1;
    if (isMissing(error)) await this.#parts.missing();
    this.#pumpAfter(wait);
  }

  #pumpAfter(ms: number): void {
    if (this.#closing !== undefined || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, ms);
  }

  async #nothingCame(): Promise<void> {
    const cause = await this.#parts.congested();
    if (this.#closing !== undefined) return;
    if (cause === undefined) this.#stalls.over("poll");
    else this.#stalls.stalled("poll", cause);
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const chosen = batch.map(({ token, action }) => {
      const held = token as Held;
      if (held.settled) return undefined;
      held.settled = true;
      return { held, action };
    });
    const acked = chosen.flatMap((one) => (one?.action === "ack" ? one.held : []));
    const requeued = chosen.flatMap((one) => (one?.action === "requeue" ? one.held : []));
    const answers = new Map<Held, Changed | undefined>();
    const [deleted, given] = await Promise.all([this.#deleteAll(acked), this.#requeueAll(requeued)]);
    for (const [index, held] of acked.entries()) answers.set(held, deleted[index]);
    for (const [index, held] of requeued.entries()) answers.set(held, given[index]);
    this.#pump();
    return chosen.map((one) => (one !== undefined && answers.get(one.held) === "done" ? "settled" : "fenced"));
  }

  async #deleteAll(all: readonly Held[]): Promise<readonly Changed[]> {
    for (const held of all) this.#deleting.add(held);
    const deletes = all.map(({ receipt }) => ({ receipt }));
    const answers = await this.#settling.apply(deletes, true);
    for (const held of all) {
      this.#deleting.delete(held);
      this.#parts.requeues.forget(held.messageId);
      this.#letGo(held);
    }
    return answers;
  }

  async #requeueAll(all: readonly Held[]): Promise<readonly Changed[]> {
    // When its lease is over a message is free without a word of ours, and perhaps another's.
    const requeues = all.map((held) => ({ ...this.#givingBack(held), until: held.until }));
    const answers = await this.#settling.apply(requeues, true);
    for (const held of all) this.#letGo(held);
    return answers;
  }

  #letGo(held: Held): void {
    this.#unsettled.delete(held);
    if (this.#unsettled.size === 0) this.#resume("renew");
  }

  #resume(reason: "delete" | "hide" | "renew"): void {
    this.#stalls.over(reason);
    this.#pump();
  }

  /** Changes of a sort do not go through, or go through again. */
  #held(sort: "delete" | "hide", cause: MessagingError | undefined): void {
    if (this.#closing !== undefined) return;
    if (cause !== undefined) this.#stalls.stalled(sort, cause);
    else this.#resume(sort);
    if (sort !== "delete") return;
    if (cause === undefined) {
      clearInterval(this.#renewal);
      this.#renewal = undefined;
    } else {
      // What is handled and cannot be deleted is not to be handled again meanwhile.
      this.#renewal ??= setInterval(() => void this.#renew([...this.#deleting]), this.leaseMs / RENEWALS_PER_LEASE);
    }
  }

  /** By the redrive policy of the queue: SQS moves it once it was received often enough. */
  async deadLetter(token: DeliveryToken): Promise<DeadLetterResult> {
    const { redriving } = this.#parts;
    const held = token as Held;
    if (redriving === undefined || held.settled) return { status: "fenced" };
    const precheck = await redriving.precheck();
    if (held.settled) return { status: "fenced" };
    if (precheck !== undefined) return precheck;
    redriving.add(held.messageId);
    held.settled = true;
    // An extension that arrived after this would only have it come later.
    const back = { receipt: held.receipt, visibilitySeconds: 0, until: held.until };
    const [changed] = await this.#settling.apply([back], true);
    this.#letGo(held);
    this.#pump();
    return { status: changed === "gone" ? "fenced" : "settled" };
  }

  async extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    const all = (batch as readonly Held[]).filter((held) => !held.settled);
    const renewing = this.#renew(all);
    this.#extending = Promise.all([this.#extending, renewing]).then(() => {});
    const cause = await renewing;
    if (cause !== undefined && all.some((held) => !held.settled)) this.#stalls.stalled("renew", cause);
    else this.#resume("renew");
    return (batch as readonly Held[]).map((held) => {
      const kept = !held.settled && held.until > Date.now() && mayHold(held);
      if (!kept && !held.settled) this.#gone(held);
      return kept;
    });
  }

  /** Renews leases as far as SQS lets us. Resolves with what stands against all of them, if it does. */
  async #renew(all: readonly Held[]): Promise<MessagingError | undefined> {
    const now = Date.now();
    const renewed = all.flatMap((held) => {
      const leftMs = Math.min(this.leaseMs, held.receivedAt + LONGEST_HOLD_MS - now);
      const visibilitySeconds = Math.floor(leftMs / 1_000);
      return visibilitySeconds < 1 ? [] : { held, visibilitySeconds, isWhole: leftMs === this.leaseMs };
    });
    const changes = renewed.map(({ held: { receipt }, visibilitySeconds }) => ({ receipt, visibilitySeconds }));
    const answers = await this.#settling.apply(changes, false);
    const against: MessagingError[] = [];
    let done = 0;
    for (const [index, { held, visibilitySeconds, isWhole }] of renewed.entries()) {
      const answer = answers[index];
      if (answer === "done") held.until = now + visibilitySeconds * 1_000;
      else if (answer === "gone") held.until = 0;
      // The end of 12 hours is SQS's to say, by its own clock. What it does not answer for is ours as long as it said before.
      else if (answer !== undefined && isWhole) against.push(answer);
      if (answer === "done") done++;
    }
    return done === 0 ? against[0] : undefined;
  }

  #gone(held: Held): void {
    held.settled = true;
    this.#letGo(held);
    this.#pump();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Polls are waited for: what SQS hands to an abandoned one would be nobody's until its visibility timeout. */
  async #close(): Promise<void> {
    clearTimeout(this.#retry);
    clearInterval(this.#renewal);
    await Promise.all(this.#polls);
    const left = [...this.#unsettled].filter((held) => !held.settled);
    for (const held of left) held.settled = true;
    // An extension that arrived after them would undo it.
    await this.#extending;
    await Promise.all([this.#settling.end(), this.#settling.apply(left.map(this.#givingBack), false)]);
    this.#unsettled.clear();
  }
}

/** Whether SQS leaves a message to whoever took it for a second more. */
function mayHold({ receivedAt }: Held): boolean {
  return receivedAt + LONGEST_HOLD_MS - Date.now() >= 1_000;
}

function changeTarget({ client, url, where, unanswered, missing }: ReceiverParts): ChangeTarget {
  return { client, url, where, unanswered, missing: () => void missing() };
}

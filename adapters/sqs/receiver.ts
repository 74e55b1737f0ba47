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
import { MessagingError } from "../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";
import { type Change, ChangeBatcher, type Changed, type ChangeTarget } from "./change-batcher.ts";
import type { Redriving } from "./dead-letters.ts";
import { asMessagingError, isMissing, isUnanswered } from "./errors.ts";
import { decodeMessage, receivesOf } from "./message-codec.ts";
import { MAX_ENTRIES } from "./publisher.ts";

/** Short, compared to network delays: messages must arrive soon even if polls do not wait. */
const PAUSE: BackoffTimes = Object.freeze({ firstMs: 10, maxMs: 250 });

/**
 * Slows down polls that return empty long before their wait ends, as from a server without long polls. A single one
 * does not matter; without a pause, many in a row would run as fast as the network allows.
 */
export class EarlyPolls {
  readonly #waitMs: number;
  #inARow = 0;

  constructor(waitSeconds: number) {
    this.#waitMs = waitSeconds * 1_000;
  }

  /** Milliseconds to wait before the next poll, after one with this duration and number of messages. */
  pauseMs(tookMs: number, count: number): number {
    this.#inARow = count > 0 || tookMs >= this.#waitMs / 2 ? 0 : this.#inARow + 1;
    return this.#inARow < 2 ? 0 : backoffMs(this.#inARow - 1, PAUSE);
  }
}

const MAX_REMEMBERED = 10_000;

/** Counts deliberate requeues of this process. SQS counts requeues like crashes of a consumer. */
export class Requeues {
  readonly #counts = new Map<string, number>();

  requeued(messageId: string): void {
    const count = this.count(messageId) + 1;
    // Drops the oldest, which is the least likely to come back.
    this.#counts.delete(messageId);
    this.#counts.set(messageId, count);
    if (this.#counts.size <= MAX_REMEMBERED) return;
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

/** Why a receiver may take no messages: polls, deletes, requeues, lease renewals, or a missing subscription. */
type StallReason = "poll" | "delete" | "hide" | "renew" | "subscription";
/** For these reasons the receiver continues to poll. */
const POLLS_CONTINUE: readonly StallReason[] = ["poll", "subscription"];

/** Reports why a receiver takes no messages, each reason once. */
class Stalls {
  readonly #sink: Pick<DeliverySink, "stalled" | "flowing">;
  readonly #causes = new Map<StallReason, MessagingError>();
  #reported: StallReason | undefined;

  constructor(sink: Pick<DeliverySink, "stalled" | "flowing">) {
    this.#sink = sink;
  }

  /** Whether polls must stop, because deliveries cannot be settled or renewed. */
  get pollsMustStop(): boolean {
    return [...this.#causes.keys()].some((reason) => !POLLS_CONTINUE.includes(reason));
  }

  has(reason: StallReason): boolean {
    return this.#causes.has(reason);
  }

  stalled(reason: StallReason, cause: MessagingError): void {
    const before = this.#causes.get(reason);
    this.#causes.set(reason, cause);
    if (before?.code === cause.code && before.message === cause.message) return;
    this.#reported = reason;
    this.#sink.stalled(cause);
  }

  /** Removes a reason, if it was one. */
  over(reason: StallReason): void {
    if (!this.#causes.delete(reason)) return;
    const [next] = this.#causes;
    if (next === undefined) this.#sink.flowing();
    else if (this.#reported === reason) {
      this.#reported = next[0];
      this.#sink.stalled(next[1]);
    }
  }

  /** A poll returned messages; their delivery ends the stall. Reasons that continue are reported again. */
  delivers(): void {
    for (const reason of POLLS_CONTINUE) this.#causes.delete(reason);
  }
}

/** SQS takes a message back after this time, however often its visibility timeout was extended. */
const MAX_HOLD_MS = 12 * 60 * 60 * 1_000;
/** As in the engine: one failed renewal must not lose a lease. */
const RENEWALS_PER_LEASE = 3;
const RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 5_000 });

/** An in-flight delivery. */
interface Delivery {
  readonly receipt: string;
  readonly messageId: string;
  readonly receivedAt: number;
  /** When its lease ends, as far as is known. */
  until: number;
  settled: boolean;
}

/** What a receiver needs of its queue. */
interface ReceiverDependencies {
  /** The source's name in error messages. */
  readonly where: string;
  readonly url: string;
  readonly polling: SQSClient;
  /** For changes of received messages. */
  readonly client: SQSClient;
  readonly requeues: Requeues;
  /** Undefined for dead letters. */
  readonly redriving: Redriving | undefined;
  readonly leaseMs: number;
  readonly waitSeconds: number;
  readonly maxPolls: number;
  readonly prefetch: number;
  /** Converts a message; by default {@link decodeMessage}. */
  readonly decode?: (message: Message) => Omit<IncomingMessage<Message>, "token">;
  /** Whether a message matches the subscription's filter. */
  readonly wanted?: (message: IncomingMessage<Message>) => boolean;
  /** The queue is gone. Resolves with why; undefined if it exists again. */
  missing(): Promise<MessagingError | undefined>;
  unanswered(cause: unknown): void;
  /** Why polls may return nothing although there are messages; undefined if no reason is known. */
  congested(): Promise<MessagingError | undefined>;
  closed(): void;
}

/** Receives messages of a queue by as many long polls as its prefetch allows. */
export class SqsReceiver implements Receiver {
  readonly leaseMs: number;
  readonly #dependencies: ReceiverDependencies;
  readonly #sink: DeliverySink<Message>;
  readonly #unsettled = new Set<Delivery>();
  readonly #polls = new Set<Promise<void>>();
  readonly #changes: ChangeBatcher;
  readonly #stalls: Stalls;
  readonly #early: EarlyPolls;
  /** Deletes that SQS refuses for now; their leases are renewed until they succeed. */
  readonly #deleting = new Set<Delivery>();
  #prefetch: number;
  /** The most messages that current polls may return. */
  #awaited = 0;
  /** The useful number of polls; it grows while they return full. */
  #wanted = 1;
  #failures = 0;
  #extending: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(dependencies: ReceiverDependencies, sink: DeliverySink<Message>) {
    this.#dependencies = dependencies;
    this.#sink = sink;
    this.#stalls = new Stalls(sink);
    this.#early = new EarlyPolls(dependencies.waitSeconds);
    this.#changes = new ChangeBatcher(changeTarget(dependencies), (kind, cause) => this.#onChangesHeld(kind, cause));
    this.leaseMs = dependencies.leaseMs;
    this.#prefetch = dependencies.prefetch;
    this.#pump();
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#pump();
  }

  /** Reports that SNS delivers nothing to this queue, and why; undefined when it does. */
  disconnected(cause: MessagingError | undefined): void {
    if (this.#closing !== undefined) return;
    if (cause === undefined) this.#stalls.over("subscription");
    else this.#stalls.stalled("subscription", cause);
  }

  /** Starts polls while the prefetch has room. */
  #pump(): void {
    if (this.#closing !== undefined || this.#retry !== undefined || this.#stalls.pollsMustStop) return;
    while (this.#polls.size < this.#wanted) {
      const room = Math.min(this.#prefetch - this.#unsettled.size - this.#awaited, MAX_ENTRIES);
      // A poll for one message costs as much as one for ten: beside another poll it waits for more room.
      const least = Math.min(MAX_ENTRIES, Math.ceil(this.#prefetch / 2));
      if (room < 1 || (room < least && this.#polls.size > 0)) return;
      const poll = this.#poll(room)
        .catch((cause: unknown) => this.#onUnreadable(cause))
        .finally(() => {
          this.#polls.delete(poll);
          this.#pump();
        });
      this.#polls.add(poll);
    }
  }

  async #poll(max: number): Promise<void> {
    const { url, polling, leaseMs, waitSeconds } = this.#dependencies;
    this.#awaited += max;
    const startedAt = performance.now();
    let messages: readonly Message[];
    try {
      const { Messages = [] } = await polling.send(
        new ReceiveMessageCommand({
          QueueUrl: url,
          MaxNumberOfMessages: max,
          WaitTimeSeconds: waitSeconds,
          VisibilityTimeout: leaseMs / 1_000,
          MessageAttributeNames: ["All"],
          MessageSystemAttributeNames: ["All"],
        }),
      );
      messages = Messages;
    } catch (error) {
      this.#awaited -= max;
      await this.#failed(error);
      return;
    }
    this.#awaited -= max;
    this.#failures = 0;
    const pauseMs = this.#early.pauseMs(performance.now() - startedAt, messages.length);
    if (messages.length === max) this.#wanted = Math.min(this.#wanted * 2, this.#dependencies.maxPolls);
    else if (messages.length === 0) this.#wanted = 1;
    if (messages.length > 0) await this.#onMessages(messages);
    else await this.#onEmptyPoll();
    if (pauseMs > 0) this.#pumpAfter(pauseMs);
  }

  async #onMessages(messages: readonly Message[]): Promise<void> {
    const open = this.#closing === undefined && !this.#stalls.pollsMustStop;
    const room = open ? Math.max(this.#prefetch - this.#unsettled.size, 0) : 0;
    const now = Date.now();
    const surplus: Delivery[] = [];
    const deliveries: IncomingMessage<Message>[] = [];
    const taken: Delivery[] = [];
    const beyondPrefetch: Delivery[] = [];
    const redriven: Change[] = [];
    for (const [index, message] of messages.entries()) {
      const delivery: Delivery = {
        receipt: message.ReceiptHandle ?? "",
        messageId: message.MessageId ?? "",
        receivedAt: now,
        until: now + this.leaseMs,
        settled: false,
      };
      if (this.#dependencies.redriving?.requeues(delivery.messageId, receivesOf(message)))
        redriven.push({ receipt: delivery.receipt, visibilitySeconds: 0 });
      else if (index >= room) beyondPrefetch.push(delivery);
      else {
        const incoming = this.#read(delivery, message);
        taken.push(delivery);
        if (this.#dependencies.wanted?.(incoming) === false) surplus.push(delivery);
        else deliveries.push(incoming);
      }
    }
    for (const delivery of taken) this.#unsettled.add(delivery);
    if (deliveries.length > 0) {
      this.#stalls.delivers();
      this.#sink.deliver(deliveries);
    } else this.#stalls.over("poll");
    if (surplus.length > 0) void this.#deleteSurplus(surplus);
    // Late messages are requeued at once, and messages for the redrive policy too.
    const back = [...beyondPrefetch.map(this.#requeueChange), ...redriven];
    if (back.length > 0) await this.#changes.apply(back, false);
  }

  /** Deletes messages that do not match the filter, and counts them. */
  async #deleteSurplus(surplus: readonly Delivery[]): Promise<void> {
    for (const delivery of surplus) delivery.settled = true;
    const removed = await this.#deleteAll(surplus);
    const filtered = removed.filter((changed) => changed === "done").length;
    if (filtered > 0) this.#sink.filtered(filtered);
    this.#pump();
  }

  #read(token: Delivery, message: Message): IncomingMessage<Message> {
    const incoming = (this.#dependencies.decode ?? decodeMessage)(message);
    const redeliveries = Math.max(incoming.redeliveries - this.#dependencies.requeues.count(token.messageId), 0);
    return { token, ...incoming, redeliveries };
  }

  readonly #requeueChange = ({ receipt, messageId }: Delivery): Change => {
    this.#dependencies.requeues.requeued(messageId);
    return { receipt, visibilitySeconds: 0 };
  };

  /** Messages of a poll could not be handled: SQS delivers them again. */
  #onUnreadable(cause: unknown): void {
    if (this.#closing !== undefined) return;
    const what = `receiving from ${this.#dependencies.where}: what a poll returned cannot be read; see the cause`;
    this.#stalls.stalled("poll", new MessagingError("unreachable", what, { cause }));
    this.#pumpAfter(backoffMs(++this.#failures, RETRY));
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#closing !== undefined) return;
    const missing = isMissing(error);
    // Another reason, such as that a queue of the other kind took its place, says more.
    if (!missing || !this.#stalls.has("poll")) {
      this.#stalls.stalled("poll", asMessagingError(`receiving from ${this.#dependencies.where}`, error));
    }
    if (isUnanswered(error)) this.#dependencies.unanswered(error);
    const wait = backoffMs(++this.#failures, RETRY);
    this.#wanted = 1;
    const why = missing ? await this.#dependencies.missing() : undefined;
    if (this.#closing !== undefined) return;
    if (why !== undefined && why.code !== "not-found") this.#stalls.stalled("poll", why);
    this.#pumpAfter(wait);
  }

  #pumpAfter(ms: number): void {
    if (this.#closing !== undefined || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, ms);
  }

  async #onEmptyPoll(): Promise<void> {
    const cause = await this.#dependencies.congested();
    if (this.#closing !== undefined) return;
    if (cause === undefined) this.#stalls.over("poll");
    else this.#stalls.stalled("poll", cause);
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const chosen = batch.map(({ token, action }) => {
      const delivery = token as Delivery;
      if (delivery.settled) return undefined;
      delivery.settled = true;
      return { delivery, action };
    });
    const acked = chosen.flatMap((one) => (one?.action === "ack" ? one.delivery : []));
    const requeued = chosen.flatMap((one) => (one?.action === "requeue" ? one.delivery : []));
    const answers = new Map<Delivery, Changed | undefined>();
    const [deleted, given] = await Promise.all([this.#deleteAll(acked), this.#requeueAll(requeued)]);
    for (const [index, delivery] of acked.entries()) answers.set(delivery, deleted[index]);
    for (const [index, delivery] of requeued.entries()) answers.set(delivery, given[index]);
    this.#pump();
    return chosen.map((one) => (one !== undefined && answers.get(one.delivery) === "done" ? "settled" : "fenced"));
  }

  async #deleteAll(all: readonly Delivery[]): Promise<readonly Changed[]> {
    for (const delivery of all) this.#deleting.add(delivery);
    const deletes = all.map(({ receipt }) => ({ receipt }));
    const answers = await this.#changes.apply(deletes, true);
    for (const delivery of all) {
      this.#deleting.delete(delivery);
      this.#dependencies.requeues.forget(delivery.messageId);
      this.#remove(delivery);
    }
    return answers;
  }

  async #requeueAll(all: readonly Delivery[]): Promise<readonly Changed[]> {
    // After its lease ends, a message is free without a request, and may be another consumer's.
    const requeues = all.map((delivery) => ({ ...this.#requeueChange(delivery), until: delivery.until }));
    const answers = await this.#changes.apply(requeues, true);
    for (const delivery of all) this.#remove(delivery);
    return answers;
  }

  #remove(delivery: Delivery): void {
    this.#unsettled.delete(delivery);
    if (this.#unsettled.size === 0) this.#resume("renew");
  }

  #resume(reason: "delete" | "hide" | "renew"): void {
    this.#stalls.over(reason);
    this.#pump();
  }

  /** Changes of a kind fail for now, or succeed again. */
  #onChangesHeld(kind: "delete" | "hide", cause: MessagingError | undefined): void {
    if (this.#closing !== undefined) return;
    if (cause !== undefined) this.#stalls.stalled(kind, cause);
    else this.#resume(kind);
    if (kind !== "delete") return;
    if (cause === undefined) {
      clearInterval(this.#renewal);
      this.#renewal = undefined;
    } else {
      // A handled message that cannot be deleted must not be delivered again meanwhile.
      this.#renewal ??= setInterval(() => void this.#renew([...this.#deleting]), this.leaseMs / RENEWALS_PER_LEASE);
    }
  }

  /** Dead-letters by the queue's redrive policy: SQS moves the message once it was received often enough. */
  async deadLetter(token: DeliveryToken): Promise<DeadLetterResult> {
    const { redriving } = this.#dependencies;
    const delivery = token as Delivery;
    if (redriving === undefined || delivery.settled) return { status: "fenced" };
    const precheck = await redriving.precheck();
    if (delivery.settled) return { status: "fenced" };
    if (precheck !== undefined) return precheck;
    redriving.add(delivery.messageId);
    delivery.settled = true;
    // There is no extension in between: it would only delay the redrive.
    const back = { receipt: delivery.receipt, visibilitySeconds: 0, until: delivery.until };
    const [changed] = await this.#changes.apply([back], true);
    this.#remove(delivery);
    this.#pump();
    return { status: changed === "gone" ? "fenced" : "settled" };
  }

  async extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    const all = (batch as readonly Delivery[]).filter((delivery) => !delivery.settled);
    const renewing = this.#renew(all);
    this.#extending = Promise.all([this.#extending, renewing]).then(() => {});
    const cause = await renewing;
    if (cause !== undefined && all.some((delivery) => !delivery.settled)) this.#stalls.stalled("renew", cause);
    else this.#resume("renew");
    return (batch as readonly Delivery[]).map((delivery) => {
      const kept = !delivery.settled && delivery.until > Date.now() && mayKeep(delivery);
      if (!kept && !delivery.settled) this.#onLeaseLost(delivery);
      return kept;
    });
  }

  /** Renews leases. Resolves with an error if SQS renewed none of them. */
  async #renew(all: readonly Delivery[]): Promise<MessagingError | undefined> {
    const now = Date.now();
    const renewed = all.flatMap((delivery) => {
      const leftMs = Math.min(this.leaseMs, delivery.receivedAt + MAX_HOLD_MS - now);
      const visibilitySeconds = Math.floor(leftMs / 1_000);
      return visibilitySeconds < 1 ? [] : { delivery, visibilitySeconds, isWhole: leftMs === this.leaseMs };
    });
    const changes = renewed.map(({ delivery: { receipt }, visibilitySeconds }) => ({ receipt, visibilitySeconds }));
    const answers = await this.#changes.apply(changes, false);
    const against: MessagingError[] = [];
    let done = 0;
    for (const [index, { delivery, visibilitySeconds, isWhole }] of renewed.entries()) {
      const answer = answers[index];
      if (answer === "done") delivery.until = now + visibilitySeconds * 1_000;
      else if (answer === "gone") delivery.until = 0;
      // SQS ends the 12 hours by its own clock. Without an answer, the lease stays as it was.
      else if (answer !== undefined && isWhole) against.push(answer);
      if (answer === "done") done++;
    }
    return done === 0 ? against[0] : undefined;
  }

  #onLeaseLost(delivery: Delivery): void {
    delivery.settled = true;
    this.#remove(delivery);
    this.#pump();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Waits for polls: a message that arrives at an abandoned poll is invisible until its visibility timeout. */
  async #close(): Promise<void> {
    clearTimeout(this.#retry);
    clearInterval(this.#renewal);
    await Promise.all(this.#polls);
    const left = [...this.#unsettled].filter((delivery) => !delivery.settled);
    for (const delivery of left) delivery.settled = true;
    // A later extension would undo the requeues.
    await this.#extending;
    await Promise.all([this.#changes.end(), this.#changes.apply(left.map(this.#requeueChange), false)]);
    this.#unsettled.clear();
    this.#dependencies.closed();
  }
}

/** Whether SQS leaves the message to this consumer for another second. */
function mayKeep({ receivedAt }: Delivery): boolean {
  return receivedAt + MAX_HOLD_MS - Date.now() >= 1_000;
}

function changeTarget({ client, url, where, unanswered, missing }: ReceiverDependencies): ChangeTarget {
  return { client, url, where, unanswered, missing: () => void missing() };
}

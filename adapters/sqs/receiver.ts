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
import { type BackoffTimes, backoffMs } from "../../core/backoff.ts";
import type { MessagingError } from "../../core/errors.ts";
import { asMessagingError, isAnswer, isMissing } from "./errors.ts";
import { decodeMessage } from "./message.ts";
import type { Redriving } from "./redriving.ts";
import type { Releases } from "./releases.ts";
import { MOST_ENTRIES } from "./sender.ts";
import type { Change, Settling } from "./settling.ts";

/** SQS takes a message back after so long, however often its visibility timeout was extended. */
const LONGEST_HOLD_MS = 12 * 60 * 60 * 1_000;
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
export interface ReceiverParts {
  /** Names the source in messages to people. */
  readonly where: string;
  readonly url: string;
  readonly polling: SQSClient;
  readonly settling: Settling;
  readonly releases: Releases;
  /** Undefined for dead letters. */
  readonly redriving: Redriving | undefined;
  readonly leaseMs: number;
  readonly waitSeconds: number;
  readonly maxPolls: number;
  readonly window: number;
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

/** Takes messages from a queue by as many long polls as its window has use for. */
export class SqsReceiver implements Receiver {
  readonly leaseMs: number;
  readonly #parts: ReceiverParts;
  readonly #sink: DeliverySink<Message>;
  readonly #unsettled = new Set<Held>();
  readonly #polls = new Set<Promise<void>>();
  #window: number;
  /** Messages that polls under way may bring. */
  #awaited = 0;
  /** How many polls are worth having: as many as came back full. */
  #wanted = 1;
  #failures = 0;
  /** Why nothing is taken. */
  #stalled: MessagingError | undefined;
  #extending: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: ReceiverParts, sink: DeliverySink<Message>) {
    this.#parts = parts;
    this.#sink = sink;
    this.leaseMs = parts.leaseMs;
    this.#window = parts.window;
    this.#pump();
  }

  window(count: number): void {
    this.#window = count;
    this.#pump();
  }

  /** Makes polls while the window has room for what they bring. */
  #pump(): void {
    while (this.#closing === undefined && this.#retry === undefined && this.#polls.size < this.#wanted) {
      const room = Math.min(this.#window - this.#unsettled.size - this.#awaited, MOST_ENTRIES);
      // A poll for one message costs as much as one for ten: beside another it is worth waiting for more room.
      const least = Math.min(MOST_ENTRIES, Math.ceil(this.#window / 2));
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
    if (messages.length === most) this.#wanted = Math.min(this.#wanted * 2, this.#parts.maxPolls);
    else if (messages.length === 0) this.#wanted = 1;
    if (messages.length > 0) await this.#arrived(messages);
    else await this.#nothingCame();
  }

  async #arrived(messages: readonly Message[]): Promise<void> {
    const room = this.#closing === undefined ? Math.max(this.#window - this.#unsettled.size, 0) : 0;
    const now = Date.now();
    const unwanted: Change[] = [];
    const deliveries: IncomingMessage<Message>[] = [];
    const late: Held[] = [];
    for (const [index, message] of messages.entries()) {
      const held: Held = {
        receipt: message.ReceiptHandle ?? "",
        messageId: message.MessageId ?? "",
        receivedAt: now,
        until: now + this.leaseMs,
        settled: false,
      };
      const receives = Number(message.Attributes?.ApproximateReceiveCount ?? 1);
      if (this.#parts.redriving?.givesBack(held.messageId, receives))
        unwanted.push({ receipt: held.receipt, visibilitySeconds: 0 });
      else if (index >= room) late.push(held);
      else {
        const incoming = this.#read(held, message);
        if (this.#parts.wanted?.(incoming) === false) unwanted.push({ receipt: held.receipt });
        else {
          this.#unsettled.add(held);
          deliveries.push(incoming);
        }
      }
    }
    if (deliveries.length > 0) {
      this.#stalled = undefined;
      this.#sink.deliver(deliveries);
    }
    // What came after it was asked for goes back at once.
    if (late.length + unwanted.length > 0) await this.#parts.settling.apply([...this.#givingBack(late), ...unwanted]);
  }

  #read(token: Held, message: Message): IncomingMessage<Message> {
    const incoming = (this.#parts.decode ?? decodeMessage)(message);
    const redeliveries = Math.max(incoming.redeliveries - this.#parts.releases.count(token.messageId), 0);
    return { token, ...incoming, redeliveries };
  }

  #givingBack(all: readonly Held[]): readonly Change[] {
    return all.map(({ receipt, messageId }) => {
      this.#parts.releases.released(messageId);
      return { receipt, visibilitySeconds: 0 };
    });
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#closing !== undefined) return;
    this.#stall(asMessagingError(`taking messages from ${this.#parts.where}`, error));
    if (!isAnswer(error)) this.#parts.unanswered(error);
    const wait = backoffMs(++this.#failures, RETRY);
    this.#wanted = 1;
    if (isMissing(error)) await this.#parts.missing();
    if (this.#closing !== undefined || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, wait);
  }

  #stall(cause: MessagingError): void {
    if (this.#stalled === cause) return;
    this.#stalled = cause;
    this.#sink.stalled(cause);
  }

  async #nothingCame(): Promise<void> {
    const cause = await this.#parts.congested();
    if (this.#closing !== undefined) return;
    if (cause !== undefined) this.#stall(cause);
    else if (this.#stalled !== undefined) {
      this.#stalled = undefined;
      this.#sink.flowing();
    }
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const results: SettleResult[] = new Array(batch.length).fill("fenced");
    const changes: Change[] = [];
    const chosen: { readonly position: number; readonly held: Held }[] = [];
    for (const [position, { token, action }] of batch.entries()) {
      const held = token as Held;
      if (held.settled) continue;
      held.settled = true;
      changes.push(...(action === "ack" ? [{ receipt: held.receipt }] : this.#givingBack([held])));
      chosen.push({ position, held });
    }
    const done = await this.#parts.settling.apply(changes);
    for (const [index, { position, held }] of chosen.entries()) {
      if (done[index] === "done") results[position] = "settled";
      if (batch[position]?.action === "ack") this.#parts.releases.forget(held.messageId);
      this.#unsettled.delete(held);
    }
    this.#pump();
    return results;
  }

  /** By the redrive policy of the queue: SQS moves it once it was received often enough. */
  async deadLetter(token: DeliveryToken): Promise<DeadLetterResult> {
    const { redriving, settling } = this.#parts;
    const held = token as Held;
    if (redriving === undefined || held.settled) return { status: "fenced" };
    const obstacle = await redriving.obstacle();
    if (held.settled) return { status: "fenced" };
    if (obstacle !== undefined) return obstacle;
    redriving.add(held.messageId);
    held.settled = true;
    // An extension that arrived after this would only have it come later.
    const [changed] = await settling.apply([{ receipt: held.receipt, visibilitySeconds: 0 }]);
    this.#unsettled.delete(held);
    this.#pump();
    return { status: changed === "refused" ? "fenced" : "settled" };
  }

  async extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    const now = Date.now();
    const extended: { readonly held: Held; readonly until: number; readonly change: Change }[] = [];
    for (const token of batch) {
      const held = token as Held;
      const leftMs = Math.min(this.leaseMs, held.receivedAt + LONGEST_HOLD_MS - now);
      if (held.settled || leftMs < 1_000) continue;
      const visibilitySeconds = Math.floor(leftMs / 1_000);
      const until = now + visibilitySeconds * 1_000;
      extended.push({ held, until, change: { receipt: held.receipt, visibilitySeconds } });
    }
    const applying = this.#parts.settling.apply(extended.map(({ change }) => change));
    this.#extending = Promise.all([this.#extending, applying]).then(() => {});
    const results = await applying;
    for (const [index, { held, until }] of extended.entries()) {
      if (results[index] === "done") held.until = until;
      // What SQS did not answer for is ours for as long as it said before.
      else if (results[index] === "refused") held.until = 0;
    }
    return batch.map((token) => {
      const held = token as Held;
      const kept = !held.settled && held.until > Date.now() && held.receivedAt + LONGEST_HOLD_MS - now >= 1_000;
      if (!kept) this.#gone(held);
      return kept;
    });
  }

  #gone(held: Held): void {
    held.settled = true;
    if (this.#unsettled.delete(held)) this.#pump();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Polls are waited for: what SQS hands to an abandoned one would be nobody's until its visibility timeout. */
  async #close(): Promise<void> {
    clearTimeout(this.#retry);
    await Promise.all(this.#polls);
    const left = [...this.#unsettled];
    this.#unsettled.clear();
    for (const held of left) held.settled = true;
    // An extension that arrived after them would undo it.
    await this.#extending;
    await this.#parts.settling.apply(this.#givingBack(left));
  }
}
